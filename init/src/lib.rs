//! What the guest's two programs are made of: PID 1 and the fault program.
