//! The appliances of `image/examples/`: where each is, how it is asked, and what its answer says.

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use noonmark_contract::units::{Nanos, Utc};
use serde::Deserialize;

/// An appliance in the checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Appliance {
    /// Tells by HTTP what PID 1's status file says.
    ClockServer,
    /// Tells by lines of text what ClockBound's client says.
    TimeBounds,
    /// Redis of the distribution's packages, which tells the time by its command TIME.
    Redis,
}

/// What Redis is asked: to keep a value and give it back, and the time.
const REDIS_REQUEST: &[u8] = b"SET example works\r\nGET example\r\nTIME\r\nQUIT\r\n";

/// What it answers before the time, and behind it.
const REDIS_ANSWER: (&str, &str) = ("+OK\r\n$5\r\nworks\r\n", "+OK\r\n");

/// What an appliance says of the time.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The time is not before this,
    pub earliest: Utc,
    /// and not after this.
    pub latest: Utc,
    /// Whether its clock follows a source, by its own word.
    pub synced: bool,
    /// Whose time it is, or how the clock stands.
    pub by: String,
}

/// What the clock server answers.
#[derive(Debug, Deserialize)]
struct Body {
    time_ns: Utc,
    bound_ns: Nanos,
    state: String,
    source: Option<String>,
}

impl Appliance {
    /// Its name, which is that of its package and program where it is compiled here.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClockServer => "clock-server",
            Self::TimeBounds => "time-bounds",
            Self::Redis => "redis",
        }
    }

    /// Whether it is a program of this checkout's.
    pub fn is_compiled(self) -> bool {
        match self {
            Self::ClockServer | Self::TimeBounds => true,
            Self::Redis => false,
        }
    }

    /// Where it is in the checkout.
    pub fn folder(self) -> String {
        format!("image/examples/{}", self.name())
    }

    /// Where its program listens in the guest, as its guest.toml says.
    pub fn port(self) -> u16 {
        match self {
            Self::ClockServer => 80,
            Self::TimeBounds => 8000,
            Self::Redis => 6379,
        }
    }

    /// How a person asks it at this port of the host.
    pub fn command(self, port: u16) -> String {
        match self {
            Self::ClockServer => format!("curl localhost:{port}"),
            Self::TimeBounds => format!("echo 1 0 | nc localhost {port}"),
            Self::Redis => format!("redis-cli -p {port} TIME"),
        }
    }

    /// What it is sent.
    pub fn request(self) -> &'static [u8] {
        match self {
            Self::ClockServer => b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            Self::TimeBounds => b"1 0\n",
            Self::Redis => REDIS_REQUEST,
        }
    }

    /// The part of what it sent that says something.
    ///
    /// # Errors
    ///
    /// It is no success, or none of the answers that this appliance gives.
    pub fn body(self, sent: &str) -> Result<&str> {
        match self {
            Self::ClockServer => {
                let Some((head, body)) = sent.split_once("\r\n\r\n") else {
                    bail!("no HTTP answer: {sent:?}");
                };
                ensure!(head.starts_with("HTTP/1.1 200 "), "{sent:?}");
                Ok(body)
            }
            Self::TimeBounds => {
                ensure!(sent.ends_with('\n'), "no whole line: {sent:?}");
                Ok(sent)
            }
            Self::Redis => {
                let (before, behind) = REDIS_ANSWER;
                let time = sent.strip_prefix(before);
                time.and_then(|time| time.strip_suffix(behind))
                    .with_context(|| format!("it did not keep what it was given: {sent:?}"))
            }
        }
    }

    /// What that part says.
    ///
    /// # Errors
    ///
    /// As [`Appliance::body`].
    pub fn answer(self, body: &str) -> Result<Answer> {
        let unexpected = || format!("an answer that is not expected: {body}");
        match self {
            Self::ClockServer => {
                let Body {
                    time_ns,
                    bound_ns,
                    state,
                    source,
                } = serde_json::from_str(body).with_context(unexpected)?;
                let synced = state == "synced";
                let source = source.unwrap_or_else(|| "no source".into());
                Ok(Answer {
                    earliest: time_ns - bound_ns,
                    latest: time_ns + bound_ns,
                    synced,
                    by: if synced { source } else { state },
                })
            }
            Self::TimeBounds => {
                let words: Vec<&str> = body.split_whitespace().collect();
                let [earliest, latest, status, _, _] = words.as_slice() else {
                    bail!(unexpected());
                };
                let instant = |text: &str| text.parse().map(Utc).with_context(unexpected);
                Ok(Answer {
                    earliest: instant(earliest)?,
                    latest: instant(latest)?,
                    // Unknown where nobody keeps this host's own clock, by which it is judged here.
                    synced: ["Synchronized", "Unknown"].contains(status),
                    by: format!("a clock that is {}", status.to_lowercase()),
                })
            }
            Self::Redis => {
                // An array of two strings, seconds and microseconds, each with its length before it.
                let words: Vec<&str> = body.split_whitespace().collect();
                let ["*2", _, seconds, _, micros] = words.as_slice() else {
                    bail!(unexpected());
                };
                let number = |text: &str| text.parse::<i64>().with_context(unexpected);
                let micros = Nanos::from_micros(number(micros)?);
                let earliest = Utc::default() + Nanos::from_secs(number(seconds)?) + micros;
                Ok(Answer {
                    earliest,
                    // The rest of the microsecond was cut off.
                    latest: earliest + Nanos::from_micros(1),
                    // It knows nothing of that, and was not started before.
                    synced: true,
                    by: "a program that starts when the clock is right".into(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_servers_answer_is_an_interval_around_its_time() {
        let sent = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{\"time_ns\":1000,\"bound_ns\":100,\
                    \"state\":\"synced\",\"source\":\"kvm\"}\n";
        let body = Appliance::ClockServer.body(sent).unwrap();
        let answer = Appliance::ClockServer.answer(body).unwrap();
        assert_eq!((answer.earliest, answer.latest), (Utc(900), Utc(1_100)));
        assert!(answer.synced && answer.by == "kvm");
        let refused = "HTTP/1.1 503 Service Unavailable\r\n\r\n{}";
        assert!(Appliance::ClockServer.body(refused).is_err());
    }

    #[test]
    fn redis_s_answer_is_a_microsecond_and_none_where_it_kept_nothing() {
        let sent = "+OK\r\n$5\r\nworks\r\n*2\r\n$10\r\n1795326681\r\n$1\r\n7\r\n+OK\r\n";
        let body = Appliance::Redis.body(sent).unwrap();
        let answer = Appliance::Redis.answer(body).unwrap();
        let earliest = Utc(1_795_326_681_000_007_000);
        assert_eq!(
            (answer.earliest, answer.latest),
            (earliest, earliest + Nanos(1_000))
        );
        assert!(
            Appliance::Redis
                .body(&sent.replace("works", "wrong"))
                .is_err()
        );
        assert!(Appliance::Redis.answer("-ERR unknown command\r\n").is_err());
    }

    #[test]
    fn a_clock_that_is_not_synchronized_is_told_as_that() {
        let answer = Appliance::TimeBounds.answer("900 1100 Disrupted 1 2\n");
        let answer = answer.unwrap();
        assert!(!answer.synced && answer.by.contains("disrupted"));
        assert!(Appliance::TimeBounds.answer("900 x Unknown 1 2\n").is_err());
        assert!(Appliance::TimeBounds.body("900 11").is_err());
    }
}
