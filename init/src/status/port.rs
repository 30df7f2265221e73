//! The status port: records out, commands in. Whatever the host does or leaves undone, a call here
//! returns at once and holds a bounded amount of memory.

use noonmark_contract::record::{self, Command};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::lines::{Inbox, Outbox, Taken};
use noonmark_linux::ports::{Port, PortError, Transfer};

use crate::token_bucket::TokenBucket;

/// What may wait for a slow host.
const OUTBOX_BYTES: usize = 64 * 1024;

/// A command's longest line.
const LINE_BYTES: usize = 4 * 1024;

/// What a host may write at once, and how long until it may do so again: 80 KiB/s.
const ALLOWED_BYTES: usize = 8 * 1024;
const ALLOWED_EVERY: Nanos = Nanos::from_millis(100);

/// How many bytes one read takes.
const READ_BYTES: usize = 1024;

/// The commands of one wake, each kind at most once, so that a flood of them costs what one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A status record.
    pub status: bool,
    /// A look at the clock.
    pub kick: bool,
    /// Services and disks are to stand still.
    pub freeze: bool,
    /// They are to go on.
    pub thaw: bool,
    /// The machine's end.
    pub shutdown: Option<record::Shutdown>,
}

/// The port and what waits on either side of it.
#[derive(Debug)]
pub struct StatusPort {
    port: Option<Port>,
    connected: bool,
    outbox: Outbox,
    inbox: Inbox,
    bucket: TokenBucket,
    unread: bool,
    rejected: u64,
}

impl StatusPort {
    /// Not attached to a port yet; records wait.
    #[must_use]
    pub fn new(now: Raw) -> Self {
        Self {
            port: None,
            connected: false,
            outbox: Outbox::new(OUTBOX_BYTES),
            inbox: Inbox::new(LINE_BYTES),
            bucket: TokenBucket::new(ALLOWED_BYTES, ALLOWED_EVERY, now),
            unread: false,
            rejected: 0,
        }
    }

    /// Looks for the port after something was plugged in or out; gives it where it is new.
    ///
    /// # Errors
    /// [`PortError`] where it is there but can't be opened.
    pub fn rescan(&mut self) -> Result<Option<&Port>, PortError> {
        if self.port.as_ref().is_some_and(|port| !port.exists()) {
            self.detach();
        }
        if self.port.is_none() {
            self.port = Port::open(record::PORT)?;
            return Ok(self.port.as_ref());
        }
        Ok(None)
    }

    /// Whether a host listens.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// Records dropped because the host was slow or absent.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }

    /// Lines that were no command.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Takes in what the driver says of the host; true where the host has just connected.
    pub fn on_presence(&mut self, connected: bool) -> bool {
        let arrived = connected && !self.connected;
        if !connected {
            self.on_disconnect();
        }
        self.connected = connected;
        self.unread = connected;
        arrived
    }

    /// Whether the host has written more than was allowed to be read so far.
    #[must_use]
    pub fn unread(&self) -> bool {
        self.unread
    }

    /// Reads what the host wrote, as far as it is allowed now.
    pub fn receive(&mut self, now: Raw) -> Wanted {
        let mut wanted = Wanted::default();
        let mut buffer = [0u8; READ_BYTES];
        while self.unread && self.bucket.available(now) >= READ_BYTES {
            let Some(port) = &self.port else {
                self.unread = false;
                break;
            };
            match port.read(&mut buffer) {
                Transfer::Bytes(count) => {
                    self.bucket.take(count);
                    self.parse(&buffer[..count], &mut wanted);
                }
                Transfer::Wait => self.unread = false,
                Transfer::Disconnected => {
                    self.on_disconnect();
                }
                Transfer::Gone => self.detach(),
            }
        }
        wanted
    }

    /// Queues one record's line, newline included.
    pub fn queue(&mut self, line: Vec<u8>) {
        self.outbox.push(line);
    }

    /// Writes as much as the driver takes without waiting.
    pub fn flush(&mut self) {
        while self.connected && !self.outbox.is_empty() {
            let Some(port) = &self.port else { return };
            match port.write(self.outbox.front()) {
                Transfer::Bytes(count) => self.outbox.advance(count),
                Transfer::Wait => return,
                Transfer::Disconnected => self.on_disconnect(),
                Transfer::Gone => self.detach(),
            }
        }
    }

    fn parse(&mut self, bytes: &[u8], wanted: &mut Wanted) {
        let rejected = &mut self.rejected;
        self.inbox.take(bytes, |taken| {
            let command = match taken {
                Taken::Line(line) => serde_json::from_slice(&line).ok(),
                Taken::TooLong => None,
            };
            match command {
                Some(Command::Get(record::Topic::Status)) => wanted.status = true,
                Some(Command::Kick(kick)) => wanted.kick |= kick,
                Some(Command::Freeze(freeze)) => wanted.freeze |= freeze,
                Some(Command::Thaw(thaw)) => wanted.thaw |= thaw,
                Some(Command::Shutdown(how)) => wanted.shutdown = Some(how),
                None => *rejected += 1,
            }
        });
    }

    fn on_disconnect(&mut self) {
        self.connected = false;
        self.unread = false;
        self.inbox.clear();
        self.outbox.abandon_partial();
    }

    fn detach(&mut self) {
        self.on_disconnect();
        self.port = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(bytes: &[u8]) -> (Wanted, u64) {
        let mut port = StatusPort::new(Raw(0));
        let mut wanted = Wanted::default();
        port.parse(bytes, &mut wanted);
        (wanted, port.rejected())
    }

    #[test]
    fn the_documented_commands_are_understood() {
        let (wanted, rejected) = parsed(
            b"{\"get\":\"status\"}\n{\"kick\":true}\n{\"shutdown\":\"poweroff\"}\n\
                     {\"freeze\":true}\n{\"thaw\":true}\n",
        );
        assert_eq!(
            wanted,
            Wanted {
                status: true,
                kick: true,
                freeze: true,
                thaw: true,
                shutdown: Some(record::Shutdown::Poweroff),
            }
        );
        assert_eq!(rejected, 0);
    }

    #[test]
    fn what_is_no_command_is_counted_and_changes_nothing() {
        let (wanted, rejected) =
            parsed(b"hello\n{\"get\":\"root\"}\n\xff\xfe\n{\"kick\":1}\n[]\n{\"shutdown\":null}\n");
        assert_eq!(wanted, Wanted::default());
        assert_eq!(rejected, 6);
    }

    #[test]
    fn a_kick_that_says_false_is_no_kick() {
        assert_eq!(parsed(b"{\"kick\":false}\n"), (Wanted::default(), 0));
    }

    #[test]
    fn a_host_that_never_comes_costs_a_bounded_amount_of_memory() {
        let mut port = StatusPort::new(Raw(0));
        for _ in 0..10_000 {
            port.queue(vec![b'x'; 1_000]);
            port.flush();
        }
        assert_eq!(port.dropped(), 10_000 - (OUTBOX_BYTES / 1_000) as u64);
    }
}
