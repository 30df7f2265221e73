//! The arguments of two machines, as QEMU gets them.

use super::*;

fn config() -> Config {
    let boot = Boot::Direct {
        kernel: "/i/kernel".into(),
        initrd: "/i/initrd".into(),
        cmdline: "console=ttyS0 panic=-1".into(),
    };
    Config {
        test_port: true,
        ..Config::new("test", Accelerator::Tcg, boot)
    }
}

/// One line for each flag with its value.
fn dump(config: &Config) -> String {
    let endpoints = Endpoints {
        qmp: "/r/qmp".into(),
        status: "/r/status".into(),
        time: "/r/time".into(),
        test: "/r/test".into(),
        command: ["/r/run", "/r/stdin", "/r/stdout", "/r/stderr"].map(Into::into),
        vars: "/r/vars".into(),
    };
    let mut text = String::new();
    for word in argv(config, &endpoints) {
        let word = word.into_string().unwrap();
        let separator = match word.starts_with('-') {
            true => '\n',
            false => ' ',
        };
        text.push(separator);
        text.push_str(&word);
    }
    text
}

#[test]
fn a_test_image_boots_directly_with_all_three_ports() {
    let expected = "
-machine q35
-accel tcg
-cpu max
-smp 2
-m 256M
-nodefaults
-no-user-config
-display none
-no-reboot
-rtc base=utc
-chardev stdio,id=console,signal=off
-serial chardev:console
-chardev socket,id=qmp,path=/r/qmp
-mon chardev=qmp,mode=control
-device virtio-serial-pci,id=ports
-chardev socket,id=status,path=/r/status
-device virtserialport,bus=ports.0,nr=1,chardev=status,name=noonmark.status
-chardev socket,id=time,path=/r/time
-device virtserialport,bus=ports.0,nr=2,chardev=time,name=noonmark.time
-chardev socket,id=test,path=/r/test
-device virtserialport,bus=ports.0,nr=3,chardev=test,name=noonmark.test
-kernel /i/kernel
-initrd /i/initrd
-append console=ttyS0 panic=-1";
    assert_eq!(dump(&config()), expected);
}

#[test]
fn a_disk_boots_by_its_firmware_with_the_devices_asked_for() {
    let config = Config {
        accelerator: Accelerator::Kvm,
        boot: Boot::Uefi {
            disk: "/i/a,b.img".into(),
            code: "/f/code".into(),
            vars: "/f/vars".into(),
        },
        rtc: Rtc::From(Utc(1_677_673_800_000_000_000)),
        time_channel: false,
        test_port: false,
        devices: vec![
            Device::VmGenId {
                guid: "auto".into(),
            },
            Device::VmClock,
            Device::NicSlot,
            Device::Net {
                forwards: vec![
                    "8080:80".parse().unwrap(),
                    "10.0.0.1:53-54:5353-5354/udp".parse().unwrap(),
                ],
                on: std::net::Ipv4Addr::LOCALHOST,
            },
            Device::Disk {
                path: "/i/seed.img".into(),
                writable: false,
            },
            Device::Disk {
                path: "/i/data.img".into(),
                writable: true,
            },
            Device::Cdrom {
                path: "/i/seed.iso".into(),
            },
            Device::Port {
                name: "org.example.log".into(),
                socket: "/r/log".into(),
            },
            Device::Credential("a.b=x=1,2".parse().unwrap()),
            Device::FirmwareCredential("a.b=x=1,2".parse().unwrap()),
            Device::Bridge("br0".into()),
            Device::Tap("tap0".into()),
            Device::Share {
                folder: "/data/a,b".into(),
                tag: "share0".into(),
                read_only: true,
            },
        ],
        command_ports: true,
        more: vec!["-device".into(), "virtio-rng-pci".into()],
        ..config()
    };
    let expected = "
-machine q35
-accel kvm
-cpu host
-smp 2
-m 256M
-nodefaults
-no-user-config
-display none
-no-reboot
-rtc base=2023-03-01T12:30:00
-chardev stdio,id=console,signal=off
-serial chardev:console
-chardev socket,id=qmp,path=/r/qmp
-mon chardev=qmp,mode=control
-device virtio-serial-pci,id=ports
-chardev socket,id=status,path=/r/status
-device virtserialport,bus=ports.0,nr=1,chardev=status,name=noonmark.status
-chardev socket,id=run,path=/r/run
-device virtserialport,bus=ports.0,nr=4,chardev=run,name=noonmark.run
-chardev socket,id=stdin,path=/r/stdin
-device virtserialport,bus=ports.0,nr=5,chardev=stdin,name=noonmark.stdin
-chardev socket,id=stdout,path=/r/stdout
-device virtserialport,bus=ports.0,nr=6,chardev=stdout,name=noonmark.stdout
-chardev socket,id=stderr,path=/r/stderr
-device virtserialport,bus=ports.0,nr=7,chardev=stderr,name=noonmark.stderr
-drive if=pflash,unit=0,format=raw,readonly=on,file=/f/code
-drive if=pflash,unit=1,format=raw,file=/r/vars
-drive if=none,id=disk,format=raw,readonly=on,file=/i/a,,b.img
-device virtio-blk-pci,drive=disk
-device vmgenid,guid=auto
-device vmclock
-device pcie-root-port,id=nic-slot,chassis=3
-netdev user,id=net3,ipv6=off,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp:10.0.0.1:53-:5353,hostfwd=udp:10.0.0.1:54-:5354
-device virtio-net-pci,netdev=net3,mac=52:54:00:12:34:56,romfile=
-drive if=none,id=disk4,format=raw,readonly=on,file=/i/seed.img
-device virtio-blk-pci,drive=disk4
-drive if=none,id=disk5,format=raw,readonly=off,file=/i/data.img
-device virtio-blk-pci,drive=disk5
-drive if=none,id=disk6,media=cdrom,format=raw,readonly=on,file=/i/seed.iso
-device virtio-scsi-pci,id=scsi6
-device scsi-cd,drive=disk6,bus=scsi6.0
-chardev socket,id=port7,server=on,wait=off,path=/r/log
-device virtserialport,bus=ports.0,chardev=port7,name=org.example.log
-smbios type=11,value=io.systemd.credential:a.b=x=1,,2
-fw_cfg name=opt/io.systemd.credentials/a.b,string=x=1,,2
-netdev bridge,id=net10,br=br0
-device virtio-net-pci,netdev=net10,mac=52:54:00:12:34:56,romfile=
-netdev tap,id=net11,ifname=tap0,script=no,downscript=no
-device virtio-net-pci,netdev=net11,mac=52:54:00:12:34:56,romfile=
-fsdev local,id=share12,security_model=none,readonly=on,path=/data/a,,b
-device virtio-9p-pci,fsdev=share12,mount_tag=share0
-device virtio-rng-pci";
    assert_eq!(dump(&config), expected);
}
