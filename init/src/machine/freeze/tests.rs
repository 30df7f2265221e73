//! The freeze's claims, on made-up time.

use super::*;

const LIMIT: Nanos = Nanos::from_secs(60);

/// The shell in small: what it was told to do, and what it knows.
struct Shell {
    freeze: Freeze,
    now: Raw,
    held: bool,
    still: bool,
    disks: Option<Result<u32, String>>,
    disks_frozen: bool,
    right_at: Option<Raw>,
    looks: u32,
    reports: Vec<Event>,
}

impl Shell {
    fn new() -> Self {
        Self {
            freeze: Freeze::new(LIMIT),
            now: Raw(0),
            held: false,
            still: false,
            disks: None,
            disks_frozen: false,
            right_at: None,
            looks: 0,
            reports: Vec::new(),
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Hold(held) => self.held = held,
                Action::Disks { freeze } => {
                    assert!(self.held, "a disk is touched while services run");
                    self.disks_frozen = freeze;
                }
                Action::Look => self.looks += 1,
                Action::Report(event) => self.reports.push(event),
            }
        }
    }

    fn begin(&mut self) -> Result<(), &'static str> {
        let mut actions = Vec::new();
        let begun = self.freeze.begin(self.now, &mut actions);
        self.carry_out(actions);
        begun
    }

    fn thaw(&mut self, by: ThawedBy) {
        let mut actions = Vec::new();
        self.freeze.thaw(by, self.now, &mut actions);
        self.carry_out(actions);
    }

    fn proceed_after(&mut self, span: Nanos) {
        self.now = self.now + span;
        let mut actions = Vec::new();
        let right_at = self.right_at;
        let facts = Facts {
            stand_still: self.still,
            disks: self.disks.take(),
            is_right_since: &|since| right_at.is_some_and(|at| at >= since),
        };
        self.freeze.proceed(self.now, facts, &mut actions);
        self.carry_out(actions);
    }

    /// Up to where the host may take its snapshot.
    fn frozen() -> Self {
        let mut shell = Self::new();
        shell.begin().unwrap();
        shell.still = true;
        shell.proceed_after(Nanos(1));
        shell.disks = Some(Ok(2));
        shell.proceed_after(Nanos(1));
        assert_eq!(shell.freeze.frozen(), Some(2));
        shell
    }

    fn thaws(&mut self) {
        assert!(self.disks_frozen && self.held);
        self.right_at = Some(self.now);
        self.proceed_after(Nanos(1));
        assert!(
            !self.disks_frozen && self.held,
            "services go on before their disks"
        );
        self.disks = Some(Ok(2));
        self.proceed_after(Nanos(1));
        assert!(!self.held && self.freeze.is_thawed());
    }
}

#[test]
fn disks_are_frozen_once_services_stand_still_and_the_host_is_told_then() {
    let mut shell = Shell::new();
    shell.begin().unwrap();
    shell.proceed_after(Nanos::from_secs(1));
    assert!(shell.held && !shell.disks_frozen && shell.freeze.frozen().is_none());
    shell.still = true;
    shell.proceed_after(Nanos(1));
    assert!(shell.disks_frozen && shell.reports.is_empty());
    shell.disks = Some(Ok(1));
    shell.proceed_after(Nanos(1));
    assert_eq!(shell.reports, [Event::Frozen { file_systems: 1 }]);
}

#[test]
fn services_go_on_only_when_the_clock_was_found_right_after_the_resume() {
    let mut shell = Shell::frozen();
    // Before the resume it was right, too.
    shell.right_at = Some(shell.now);
    shell.now = shell.now + Nanos::from_secs(5);
    shell.thaw(ThawedBy::Resume);
    assert_eq!(shell.looks, 1);
    shell.proceed_after(Nanos::from_secs(1));
    assert!(shell.held && shell.disks_frozen, "thawed by an old reading");
    shell.thaws();
    let by = ThawedBy::Resume;
    assert_eq!(shell.reports.last(), Some(&Event::Thawed { by }));
}

#[test]
fn a_host_that_is_gone_leaves_no_frozen_guest_nor_one_whose_clock_can_not_be_read() {
    let mut shell = Shell::frozen();
    shell.proceed_after(LIMIT);
    assert_eq!(shell.looks, 1);
    // No source answers.
    shell.proceed_after(CONFIRMING);
    assert!(!shell.disks_frozen);
    // Nor do the disks.
    shell.proceed_after(THAWING);
    assert!(!shell.held && shell.freeze.is_thawed());
    let by = ThawedBy::Limit;
    assert_eq!(shell.reports.last(), Some(&Event::Thawed { by }));
}

#[test]
fn a_limit_that_is_over_while_the_machine_was_away_waits_for_the_clock() {
    let mut shell = Shell::frozen();
    shell.proceed_after(LIMIT + LIMIT);
    assert!(shell.held, "thawed at once");
    shell.thaws();
}

#[test]
fn what_fails_is_undone_and_told() {
    let mut shell = Shell::new();
    shell.begin().unwrap();
    shell.proceed_after(STOPPING);
    shell.disks = Some(Ok(0));
    shell.proceed_after(Nanos(1));
    assert!(!shell.held && shell.freeze.is_thawed());
    let told = shell.freeze.problem().unwrap();
    assert_eq!(told, "services did not stand still within 10.000 s");

    let mut shell = Shell::new();
    shell.begin().unwrap();
    shell.still = true;
    shell.proceed_after(Nanos(1));
    shell.disks = Some(Err("failed to freeze /data: EIO".into()));
    shell.proceed_after(Nanos(1));
    assert!(!shell.disks_frozen && shell.held);
    shell.disks = Some(Ok(0));
    shell.proceed_after(Nanos(1));
    assert!(!shell.held);
    assert_eq!(shell.freeze.problem(), Some("failed to freeze /data: EIO"));
    let by = ThawedBy::Failure;
    assert_eq!(shell.reports.last(), Some(&Event::Thawed { by }));
}

#[test]
fn a_disk_that_does_not_answer_is_given_up_however_long_a_freeze_may_last() {
    let mut shell = Shell::new();
    shell.freeze = Freeze::new(Nanos::from_secs(3_600));
    shell.begin().unwrap();
    shell.still = true;
    shell.proceed_after(Nanos(1));
    shell.proceed_after(FREEZING - Nanos(1));
    assert_eq!(shell.freeze.problem(), None);
    shell.proceed_after(Nanos(1));
    let told = shell.freeze.problem().unwrap();
    assert_eq!(told, "data disks were not frozen within 60.000 s");
    shell.proceed_after(THAWING);
    assert!(!shell.held && shell.freeze.is_thawed());
}

#[test]
fn a_thaw_that_comes_too_early_waits_for_the_freeze_and_a_resume_then_is_another() {
    for (by, frozen) in [(ThawedBy::Host, false), (ThawedBy::Resume, true)] {
        let mut shell = Shell::new();
        shell.begin().unwrap();
        shell.thaw(by);
        assert!(shell.held);
        shell.still = true;
        shell.proceed_after(Nanos(1));
        shell.disks = Some(Ok(1));
        shell.proceed_after(Nanos(1));
        assert_eq!(shell.freeze.frozen().is_some(), frozen, "{by:?}");
    }
}

#[test]
fn a_machine_that_goes_down_thaws_at_once_from_wherever_it_is() {
    let mut shell = Shell::frozen();
    let mut actions = Vec::new();
    shell.freeze.abandon(&mut actions);
    shell.carry_out(actions);
    assert!(!shell.held && !shell.disks_frozen && shell.freeze.is_thawed());
    let mut none = Vec::new();
    shell.freeze.abandon(&mut none);
    assert_eq!(none, []);
}
