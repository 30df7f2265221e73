//! Shutting a machine down: PID 1 is asked, the power button pressed, QEMU told to quit, and killed, in
//! this order and each only where what comes before it did not help.

use std::time::Instant;

use noonmark_contract::record::{Command, Shutdown};
use serde_json::json;

use super::error::MachineError;
use super::exit::ExitCause;
use super::machine::Machine;

/// How a machine was shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOff {
    /// Its own PID 1 turned it off when it was asked to.
    Guest,
    /// It took no notice, and turned itself off when its power button was pressed.
    Button,
    /// It did not in time, so QEMU was told to quit.
    Quit,
    /// QEMU did not quit either and was killed.
    Killed,
}

impl Machine {
    /// Presses the power button (ACPI), as `virsh shutdown` does.
    ///
    /// # Errors
    /// Where QEMU refuses, or does not answer in time.
    pub fn press_power_button(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + self.timeouts().answer();
        Ok(self.instance.qmp.system_powerdown(deadline)?)
    }

    /// Presses Ctrl, Alt and Del together on the machine's keyboard.
    ///
    /// # Errors
    /// Where QEMU refuses, or does not answer in time.
    pub fn press_ctrl_alt_del(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + self.timeouts().answer();
        let keys = ["ctrl", "alt", "delete"].map(|key| json!({"type": "qcode", "data": key}));
        let arguments = json!({ "keys": keys });
        self.instance.qmp.execute("send-key", arguments, deadline)?;
        Ok(())
    }

    /// Waits until the machine has turned itself off; false where it has not by then.
    ///
    /// # Errors
    /// Where the machine ended by something else.
    pub fn wait_off(&mut self, deadline: Instant) -> Result<bool, MachineError> {
        if self.instance.process.wait(deadline).is_none() {
            return Ok(false);
        }
        match self.instance.exit_error() {
            MachineError::Exited(exit) if exit.cause == ExitCause::PoweredOff => Ok(true),
            error => Err(error),
        }
    }

    /// Shuts the machine down. PID 1 gets its time twice: to answer the request, which a
    /// guest without the status port can't, and to answer the button, which one without ACPI can't.
    ///
    /// # Errors
    /// Where the machine ended by something else than the power-off.
    pub fn power_off(mut self) -> Result<PowerOff, MachineError> {
        let timeouts = self.timeouts().shutdown();
        self.send(&Command::Shutdown(Shutdown::Poweroff))?;
        if self.wait_off(Instant::now() + timeouts)? {
            return Ok(PowerOff::Guest);
        }
        // A monitor that no longer answers is what the kill is for.
        if self.press_power_button().is_ok() && self.wait_off(Instant::now() + timeouts)? {
            return Ok(PowerOff::Button);
        }
        let _ = self.instance.qmp.quit(Instant::now() + timeouts);
        Ok(
            match self.instance.process.wait(Instant::now() + timeouts) {
                Some(_) => PowerOff::Quit,
                None => PowerOff::Killed,
            },
        )
    }
}
