//! Faults of the source that the guest follows: the host's time channel goes away, or
//! its server is a falseticker, or a NIC is unplugged with its PHC. The guest must let go of it
//! without ever setting its clock wrong, and come back to it later.

use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::record::{Alert, Event};
use noonmark_contract::sample::Source;
use noonmark_contract::testport::Ask;
use noonmark_contract::units::{Nanos, Ppb, Utc};
use noonmark_qemu::nic::PHC_NAME;
use noonmark_qemu::time_server::{Behaviour, host_utc};

use crate::fault::{LEAVE_MAX, Misbehaviour, SourceFault};
use crate::report::Sample;

use super::outcome::SampleError;
use super::recovery::{Timeline, evaluate};
use super::session::Session;

/// How long it is watched for that.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

/// How long the clock is watched after it, with the fault going on: a wrong step could come late.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How long the guest may take to come back to the source once it is well again. A source that
/// was a falseticker is barred for ten seconds at first.
const RETURN_DEADLINE: Duration = Duration::from_secs(30);

/// Between two exchanges with the guest.
const EXCHANGE_PAUSE: Duration = Duration::from_millis(10);

/// Exchanges before the fault.
const EXCHANGES_BEFORE: u32 = 5;

/// How late a late host answers.
const LATE: Duration = Duration::from_millis(300);

/// How fast a drifting host drifts: 1000 ppm.
const DRIFT: Ppb = Ppb(1_000_000.0);

/// The source that the guest follows before such a fault.
fn followed(change: SourceFault) -> Source {
    match change {
        SourceFault::NicUnplugged => Source::Phc(PHC_NAME.to_owned()),
        SourceFault::ChannelClosed | SourceFault::Falseticker(_) => Source::Host,
    }
}

/// What the guest did about it by its own records, with the time since the fault.
#[derive(Debug)]
struct Reaction {
    /// The source that it followed before.
    followed: Source,
    left: Option<(Nanos, Option<Source>)>,
    alert: Option<(Nanos, Alert)>,
    back: bool,
}

/// Changes the source, watches how the guest lets go of it, and changes it back.
pub(crate) fn sample(
    session: &mut Session<'_>,
    change: SourceFault,
) -> Result<Sample, SampleError> {
    session.forget_records();
    session.order(Ask::Vigil)?;
    let mut timeline = Timeline::default();
    for _ in 0..EXCHANGES_BEFORE {
        timeline.push(&session.exchange()?);
    }
    let mut reaction = Reaction::new(followed(change));
    let since = host_utc();
    inject(session, change, since)?;
    watch(
        session,
        &mut timeline,
        &mut reaction,
        since,
        LEAVE_DEADLINE,
        |reaction| reaction.left.is_some(),
    )?;
    watch(
        session,
        &mut timeline,
        &mut reaction,
        since,
        AFTERMATH,
        |_| false,
    )?;
    let cleared = host_utc();
    clear(session, change)?;
    watch(
        session,
        &mut timeline,
        &mut reaction,
        since,
        RETURN_DEADLINE,
        |reaction| reaction.back,
    )?;
    let back = reaction.back.then(|| host_utc() - cleared);
    let vigil = session.end_vigil()?;
    let mut sample = evaluate(&vigil, &timeline, since, session.plan.tolerance)
        .ok_or_else(|| SampleError::Refused("the guest's clock was not read".to_owned()))?;
    let wrong = sample.wrong_reads;
    if wrong > 0 {
        let worst = sample.worst_ns;
        let why = format!("the clock was wrong in {wrong} reads, by up to {worst}");
        sample.violations.push(why);
    }
    conclude(&reaction, back, &mut sample);
    Ok(sample)
}

/// Adds what the guest reaction to what the vigil saw.
fn conclude(reaction: &Reaction, back: Option<Nanos>, sample: &mut Sample) {
    // The time that counts is that until the guest no longer relied on the source.
    sample.recovered_ns = reaction.left.as_ref().map(|(after, _)| *after);
    let mut detail = match &reaction.left {
        Some((_, Some(next))) => format!("went on with {next}"),
        Some((_, None)) => "went into holdover".to_owned(),
        None => "did not let go of the source".to_owned(),
    };
    match reaction.left {
        Some((after, _)) if after <= LEAVE_MAX => {}
        Some((after, _)) => sample.violations.push(format!(
            "the guest let go of the source only after {after}; at most {LEAVE_MAX} is accepted"
        )),
        None => {}
    }
    match &reaction.alert {
        Some((after, alert)) => detail += &format!(", alert {alert:?} after {after}"),
        None => sample.violations.push("no alert was raised".to_owned()),
    }
    match back {
        Some(after) => detail += &format!(", back after {after}"),
        None => sample.violations.push(format!(
            "the guest did not come back to the source within {} s",
            RETURN_DEADLINE.as_secs()
        )),
    }
    sample.detail = detail;
}

/// Does what the fault means.
fn inject(session: &mut Session<'_>, change: SourceFault, since: Utc) -> Result<(), SampleError> {
    let how = match change {
        SourceFault::ChannelClosed => {
            session.machine.close_time_channel();
            return Ok(());
        }
        SourceFault::NicUnplugged => return Ok(session.machine.unplug_nic()?),
        SourceFault::Falseticker(how) => how,
    };
    session.machine.set_time_server_behaviour(match how {
        Misbehaviour::Hour => Behaviour::Offset(Nanos::from_secs(3600)),
        Misbehaviour::Drift => Behaviour::Drift { rate: DRIFT, since },
        Misbehaviour::Garbage => Behaviour::Garbage,
        Misbehaviour::Late => Behaviour::Delay(LATE),
        Misbehaviour::Silent => Behaviour::Silent,
    });
    Ok(())
}

/// Ends it: the source is as good as before.
fn clear(session: &mut Session<'_>, change: SourceFault) -> Result<(), SampleError> {
    match change {
        SourceFault::ChannelClosed => session.machine.open_time_channel()?,
        SourceFault::NicUnplugged => {
            let deadline = Instant::now() + session.machine.timeouts().answer();
            session.machine.wait_unplugged(deadline)?;
            session.machine.plug_nic()?;
        }
        SourceFault::Falseticker(_) => session
            .machine
            .set_time_server_behaviour(Behaviour::Truechimer),
    }
    Ok(())
}

/// Keeps exchanging and listening until `enough`, or for `at_most`.
fn watch(
    session: &mut Session<'_>,
    timeline: &mut Timeline,
    reaction: &mut Reaction,
    since: Utc,
    at_most: Duration,
    enough: impl Fn(&Reaction) -> bool,
) -> Result<(), SampleError> {
    let deadline = Instant::now() + at_most;
    while !enough(reaction) && Instant::now() < deadline {
        timeline.push(&session.exchange()?);
        while let Some(record) = session.event() {
            reaction.take(record.event, host_utc() - since);
        }
        thread::sleep(EXCHANGE_PAUSE);
    }
    Ok(())
}

impl Reaction {
    fn new(followed: Source) -> Self {
        Self {
            followed,
            left: None,
            alert: None,
            back: false,
        }
    }

    fn take(&mut self, event: Event, after: Nanos) {
        match event {
            Event::Source { to, .. } => {
                self.back = self.left.is_some() && to.as_ref() == Some(&self.followed);
                self.left.get_or_insert((after, to));
            }
            Event::Alert {
                alert,
                standing: true,
                ..
            } => {
                self.alert.get_or_insert((after, alert));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(to: Option<Source>) -> Event {
        Event::Source {
            from: None,
            to,
            why: String::new(),
        }
    }

    fn alert() -> Event {
        Event::Alert {
            alert: Alert::SourceLost,
            standing: true,
            why: String::new(),
        }
    }

    #[test]
    fn a_source_that_was_left_in_time_with_an_alert_and_is_back_is_no_violation() {
        let mut reaction = Reaction::new(Source::Host);
        reaction.take(alert(), Nanos::from_millis(90));
        reaction.take(source(Some(Source::Rtc)), Nanos::from_millis(100));
        assert!(!reaction.back);
        reaction.take(source(Some(Source::Host)), Nanos::from_secs(3));
        assert!(reaction.back);
        let mut sample = Sample::default();
        conclude(&reaction, Some(Nanos::from_secs(1)), &mut sample);
        assert_eq!(sample.recovered_ns, Some(Nanos::from_millis(100)));
        assert_eq!(sample.violations, [""; 0]);
        assert_eq!(
            sample.detail,
            "went on with rtc, alert SourceLost after 90.000 ms, back after 1.000 s"
        );
    }

    #[test]
    fn what_is_late_silent_or_never_back_is_said() {
        let mut reaction = Reaction::new(Source::Host);
        reaction.take(source(None), Nanos::from_millis(1_500));
        let mut sample = Sample::default();
        conclude(&reaction, None, &mut sample);
        assert_eq!(sample.violations.len(), 3, "{:?}", sample.violations);
        let mut sample = Sample::default();
        conclude(&Reaction::new(Source::Host), None, &mut sample);
        assert_eq!(sample.recovered_ns, None);
        assert!(sample.detail.starts_with("did not let go"));
    }
}
