//! The power button: the kernel's ACPI events, which come by generic netlink (drivers/acpi/event.c).

use std::os::fd::OwnedFd;

use netlink_packet_core::NlasIterator;
use noonmark_linux::sys;
use rustix::io::Errno;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send, socket_with,
};
use thiserror::Error;

/// The family, and its only group, of drivers/acpi/event.c.
const FAMILY: &str = "acpi_event";
const GROUP: &str = "acpi_mc_group";

/// What the button's driver calls its events (drivers/acpi/button.c).
const POWER_BUTTON: &[u8] = b"button/power";

/// The family that knows the others, and how it is asked (include/uapi/linux/genetlink.h).
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

/// The event's attribute; its first 20 bytes are the device's class, filled up with zeros.
const ACPI_GENL_ATTR_EVENT: u16 = 1;
const CLASS_BYTES: usize = 20;

/// include/uapi/linux/netlink.h
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSGHDR_BYTES: usize = 16;

/// `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS_BYTES: usize = NLMSGHDR_BYTES + 4;

/// `struct nlattr`
const ATTRIBUTE_BYTES: usize = 4;

/// One message's longest length: an event has 68 bytes, the controller's answer some hundred.
const MESSAGE_MAX: usize = 4096;

/// How many messages one wake takes in.
const MESSAGES_PER_WAKE: usize = 64;

/// Why the power button is not listened to.
#[derive(Debug, Error)]
pub enum ButtonError {
    /// The socket failed.
    #[error("power button: {what}: {errno}; a host can still send {{\"shutdown\":\"poweroff\"}}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// The kernel's answer on where its ACPI events are makes no sense.
    #[error(
        "power button: the kernel's answer about `{FAMILY}` can't be understood; a host can still \
         send {{\"shutdown\":\"poweroff\"}}"
    )]
    Answer,
}

/// Where the kernel's ACPI events are found; both numbers are given out at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    family: u16,
    group: u32,
}

/// The socket that hears of the button.
#[derive(Debug)]
pub struct Button {
    socket: OwnedFd,
    family: u16,
}

impl Button {
    /// Subscribes to the ACPI events; none where the kernel or the machine has no ACPI.
    ///
    /// Nothing here waits: the kernel answers within the call that asks.
    ///
    /// # Errors
    /// [`ButtonError`].
    pub fn open() -> Result<Option<Self>, ButtonError> {
        let failed = |what| move |errno| ButtonError::Socket { what, errno };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(GENERIC),
        )
        .map_err(failed("opening a socket"))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0)).map_err(failed("binding a socket"))?;
        send(&socket, &question(), SendFlags::empty()).map_err(failed("asking for ACPI events"))?;
        let mut buffer = [0u8; MESSAGE_MAX];
        let (used, _, _) = recvfrom(&socket, &mut buffer[..], RecvFlags::DONTWAIT)
            .map_err(failed("waiting for an answer"))?;
        let Some(address) = parse_answer(&buffer[..used])? else {
            return Ok(None);
        };
        sys::join_netlink_group(&socket, address.group)
            .map_err(failed("subscribing to ACPI events"))?;
        Ok(Some(Self {
            socket,
            family: address.family,
        }))
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn descriptor(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether it was pressed, by what has come in since.
    pub fn take_press(&self) -> bool {
        let mut buffer = [0u8; MESSAGE_MAX];
        let mut pressed = false;
        for _ in 0..MESSAGES_PER_WAKE {
            match recvfrom(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((used, _, sender)) => {
                    let from_kernel = sender
                        .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
                        .is_some_and(|sender| sender.pid() == 0);
                    pressed |= from_kernel && is_press(&buffer[..used], self.family);
                }
                // Messages were lost; what was lost can be pressed again.
                Err(Errno::NOBUFS) => {}
                Err(_) => break,
            }
        }
        pressed
    }
}

/// The request for what the controller knows of [`FAMILY`].
fn question() -> Vec<u8> {
    let name = [FAMILY.as_bytes(), b"\0"].concat();
    let attribute = ATTRIBUTE_BYTES + name.len();
    let length = HEADERS_BYTES + attribute.next_multiple_of(4);
    let mut message = Vec::with_capacity(length);
    // Ten bytes of name: these lengths are far from their types' ends.
    message.extend((length as u32).to_ne_bytes());
    message.extend(GENL_ID_CTRL.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and port: there is one question, and the kernel fills in who asks.
    message.extend([0; 8]);
    message.extend([CTRL_CMD_GETFAMILY, 1, 0, 0]);
    message.extend((attribute as u16).to_ne_bytes());
    message.extend(CTRL_ATTR_FAMILY_NAME.to_ne_bytes());
    message.extend(name);
    message.resize(length, 0);
    message
}

/// Reads the controller's answer; none where it knows no such family.
fn parse_answer(message: &[u8]) -> Result<Option<Address>, ButtonError> {
    if message_type(message) == Some(NLMSG_ERROR) {
        let code = message
            .get(NLMSGHDR_BYTES..NLMSGHDR_BYTES + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map(i32::from_ne_bytes);
        return match code.map(|code| Errno::from_raw_os_error(code.wrapping_neg())) {
            Some(Errno::NOENT) => Ok(None),
            Some(errno) => Err(ButtonError::Socket {
                what: "asking for ACPI events",
                errno,
            }),
            None => Err(ButtonError::Answer),
        };
    }
    let body = body(message, GENL_ID_CTRL).ok_or(ButtonError::Answer)?;
    let family = attribute(body, CTRL_ATTR_FAMILY_ID)
        .and_then(|value| value.try_into().ok())
        .map(u16::from_ne_bytes);
    let groups = attribute(body, CTRL_ATTR_MCAST_GROUPS).unwrap_or_default();
    let group = NlasIterator::new(groups)
        .map_while(Result::ok)
        .find_map(|entry| group_number(entry.value()));
    match (family, group) {
        (Some(family), Some(group)) => Ok(Some(Address { family, group })),
        _ => Err(ButtonError::Answer),
    }
}

/// The number of the group that these attributes describe, if it is [`GROUP`].
fn group_number(group: &[u8]) -> Option<u32> {
    let name = attribute(group, CTRL_ATTR_MCAST_GRP_NAME)?;
    let number = attribute(group, CTRL_ATTR_MCAST_GRP_ID)?;
    (name.strip_suffix(b"\0")? == GROUP.as_bytes())
        .then(|| number.try_into().ok().map(u32::from_ne_bytes))
        .flatten()
}

/// Whether this message tells that the power button was pressed.
fn is_press(message: &[u8], family: u16) -> bool {
    body(message, family)
        .and_then(|body| attribute(body, ACPI_GENL_ATTR_EVENT))
        .and_then(|event| event.get(..CLASS_BYTES))
        .and_then(|class| class.split(|&byte| byte == 0).next())
        .is_some_and(|class| class == POWER_BUTTON)
}

/// The attributes of a whole message of this family.
fn body(message: &[u8], family: u16) -> Option<&[u8]> {
    let length = u32::from_ne_bytes(message.get(..4)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    (message_type(message)? == family)
        .then(|| message.get(HEADERS_BYTES..length))
        .flatten()
}

fn message_type(message: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?))
}

/// The value of the first attribute of this kind.
fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == kind)?;
    let length = usize::from(found.length());
    // The iterator has checked the length; what follows the attribute is in here too.
    found.into_inner().get(ATTRIBUTE_BYTES..length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE_BYTES + value.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADERS_BYTES + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 14]);
        bytes.extend(body);
        bytes
    }

    fn answer() -> Vec<u8> {
        let group = |name: &str, number: u32| {
            let name = nla(CTRL_ATTR_MCAST_GRP_NAME, format!("{name}\0").as_bytes());
            let number = nla(CTRL_ATTR_MCAST_GRP_ID, &number.to_ne_bytes());
            nla(1, &[name, number].concat())
        };
        let groups = [group("another", 4), group(GROUP, 41)].concat();
        let body = [
            nla(CTRL_ATTR_FAMILY_NAME, b"acpi_event\0"),
            nla(CTRL_ATTR_FAMILY_ID, &27u16.to_ne_bytes()),
            nla(CTRL_ATTR_MCAST_GROUPS, &groups),
        ];
        message(GENL_ID_CTRL, &body.concat())
    }

    /// As drivers/acpi/event.c fills its `struct acpi_genl_event`.
    fn event(class: &[u8]) -> Vec<u8> {
        let mut event = class.to_vec();
        event.resize(CLASS_BYTES, 0);
        event.extend(b"LNXPWRBN:00\0\0\0\0\0\x80\0\0\0\x01\0\0\0");
        message(27, &nla(ACPI_GENL_ATTR_EVENT, &event))
    }

    #[test]
    fn the_controllers_answer_gives_family_and_group() {
        let expected = Address {
            family: 27,
            group: 41,
        };
        assert_eq!(parse_answer(&answer()).unwrap(), Some(expected));
    }

    #[test]
    fn a_kernel_without_acpi_has_no_button_and_a_refusal_is_told() {
        let refusal = |errno: Errno| {
            let mut bytes = message(NLMSG_ERROR, &[]);
            bytes[NLMSGHDR_BYTES..].copy_from_slice(&(-errno.raw_os_error()).to_ne_bytes());
            parse_answer(&bytes)
        };
        assert_eq!(refusal(Errno::NOENT).unwrap(), None);
        let text = refusal(Errno::PERM).unwrap_err().to_string();
        assert!(text.contains("power button"), "{text}");
        assert!(parse_answer(b"").is_err());
    }

    #[test]
    fn only_the_power_button_is_a_press() {
        assert!(is_press(&event(b"button/power"), 27));
        for other in [
            event(b"button/sleep"),
            event(b"button/powers"),
            event(b"ac_adapter"),
            event(b""),
        ] {
            assert!(!is_press(&other, 27), "{other:?}");
        }
        assert!(!is_press(&event(b"button/power"), 28), "another family's");
    }

    #[test]
    fn a_message_that_was_cut_short_is_no_press() {
        let whole = event(b"button/power");
        for length in 0..whole.len() {
            assert!(!is_press(&whole[..length], 27), "{length} bytes");
        }
    }

    #[test]
    fn this_kernel_answers_or_says_that_it_has_no_acpi() {
        // Without a group to join, a machine without ACPI has nothing to be pressed.
        if let Some(button) = Button::open().unwrap() {
            assert!(!button.take_press());
        }
    }

    proptest! {
        #[test]
        fn no_message_upsets_the_reader(
            message in prop::collection::vec(any::<u8>(), 0..200),
            at in 0usize..200,
            byte: u8,
        ) {
            let _ = (parse_answer(&message), is_press(&message, 27));
            for mut known in [answer(), event(b"button/power")] {
                let place = at % known.len();
                known[place] = byte;
                let _ = (parse_answer(&known), is_press(&known, 27));
            }
        }
    }
}
