//! The smallest guest that QEMU boots: a Multiboot kernel of a few dozen bytes that prints a text
//! on the serial port and then does one thing. No image needs to be built for it.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use noonmark_qemu::accel::Accelerator;
use noonmark_qemu::{Boot, Config, Qemu};

/// What the guest does after it has printed.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// Nothing, for ever.
    Halt,
    /// It turns the machine off.
    PowerOff,
    /// It resets the machine.
    Reset,
}

/// Where the kernel is loaded to.
const LOAD_AT: u32 = 0x10_0000;

/// Bytes of the header that stands before the code.
const HEADER_LEN: u32 = 32;

/// The kernel's bytes. Header: Multiboot Specification 0.6.96, 3.1, with load addresses in it.
pub fn kernel(text: &str, ending: Ending) -> Vec<u8> {
    const MAGIC: u32 = 0x1BAD_B002;
    const HAS_ADDRESSES: u32 = 1 << 16;
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(HAS_ADDRESSES);
    let header = [
        MAGIC,
        HAS_ADDRESSES,
        checksum,
        LOAD_AT,
        LOAD_AT,
        // Up to the file's end, and no memory beyond it.
        0,
        0,
        LOAD_AT + HEADER_LEN,
    ];
    let mut bytes: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    // mov dx, 0x3f8: the first serial port
    bytes.extend([0x66, 0xBA, 0xF8, 0x03]);
    for byte in text.bytes() {
        // mov al, byte; out dx, al
        bytes.extend([0xB0, byte, 0xEE]);
    }
    match ending {
        Ending::Halt => {}
        // mov dx, 0x604; mov ax, 0x2000; out dx, ax: sleep state 5 in the chipset's PM1a control
        Ending::PowerOff => {
            bytes.extend([0x66, 0xBA, 0x04, 0x06, 0x66, 0xB8, 0x00, 0x20, 0x66, 0xEF])
        }
        // mov dx, 0xcf9; mov al, 6; out dx, al: the chipset's reset register
        Ending::Reset => bytes.extend([0x66, 0xBA, 0xF9, 0x0C, 0xB0, 0x06, 0xEE]),
    }
    // cli; hlt; jmp back to the hlt
    bytes.extend([0xFA, 0xF4, 0xEB, 0xFD]);
    bytes
}

/// A machine that boots such a kernel, whose files are put in `directory`.
pub fn config(directory: &Path, text: &str, ending: Ending) -> Config {
    let kernel_path = directory.join("kernel");
    let initrd = directory.join("initrd");
    fs::write(&kernel_path, kernel(text, ending)).unwrap();
    fs::write(&initrd, b"nothing").unwrap();
    let boot = Boot::Direct {
        kernel: kernel_path,
        initrd,
        cmdline: String::new(),
    };
    Config {
        vcpus: 1,
        memory_mib: 32,
        test_port: true,
        ..Config::new("smallest", Accelerator::Tcg, boot)
    }
}

/// The QEMU to test with; where there is none, the test is listed as not run.
pub fn qemu(test: &str) -> Option<Qemu> {
    let named = std::env::var_os("NOONMARK_QEMU");
    match Qemu::find(named.as_deref().map(Path::new)) {
        Ok(qemu) => Some(qemu),
        Err(error) => {
            not_run(test, &error.to_string());
            None
        }
    }
}

fn not_run(test: &str, reason: &str) {
    eprintln!("not run: {test}: {reason}");
    let Some(list) = std::env::var_os("NOONMARK_NOT_RUN") else {
        return;
    };
    let line = serde_json::json!({"test": test, "reason": reason});
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(list)
        .unwrap();
    writeln!(file, "{line}").unwrap();
}
