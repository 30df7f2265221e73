//! The list of VM tests, and what each needs.

use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use noonmark_contract::sample::Source;
use noonmark_tests::not_run;

use crate::platform::{Images, Platform};
use crate::{
    agent, appliance, bench, boot, clockbound, disks, faults, firstread, freeze, hostile,
    interfaces, intruder, lifetime, nested, notify, ntp, nts, power, recovery, run, seed, services,
    snapshot, truth, utc, watchdog,
};

/// What a test does on a platform.
type Body = fn(&Platform, &Images) -> Result<()>;

/// On which platforms a test makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// Each one.
    Every,
    /// Those whose guests follow this source by themselves.
    Following(Follows),
    /// The first one is enough: the claim doesn't depend on the clock's source.
    First,
}

/// [`Source`], as far as the tests tell platforms apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    Kvm,
    Host,
}

const TESTS: &[(&str, On, Body)] = &[
    (
        "a_command_has_its_streams_and_its_status",
        On::First,
        run::has_its_streams_and_its_status,
    ),
    ("a_command_shares_folders", On::First, run::shares_folders),
    (
        "a_command_ends_in_time_and_by_ctrl_c",
        On::First,
        run::ends_in_time_and_by_ctrl_c,
    ),
    (
        "recovers_by_ptp_kvm",
        On::Following(Follows::Kvm),
        recovery::by_ptp_kvm,
    ),
    (
        "recovers_by_ptp_kvm_in_an_emulated_host",
        On::First,
        nested::recovers_by_ptp_kvm_in_an_emulated_host,
    ),
    (
        "recovers_by_the_host_channel",
        On::Following(Follows::Host),
        recovery::by_the_host_channel,
    ),
    (
        "a_wrong_clock_that_is_called_synced_fails",
        On::Following(Follows::Host),
        truth::a_wrong_clock_that_is_called_synced_fails,
    ),
    (
        "recovers_on_one_processor",
        On::Every,
        recovery::on_one_processor,
    ),
    (
        "is_right_again_after_a_pause",
        On::Every,
        recovery::after_a_pause,
    ),
    (
        "looks_at_once_when_kicked",
        On::Every,
        recovery::when_kicked,
    ),
    (
        "recovers_from_what_its_programs_do",
        On::Every,
        faults::done_in_the_guest,
    ),
    (
        "recovers_in_another_qemu",
        On::First,
        faults::moved_to_another_qemu,
    ),
    (
        "sees_through_a_lying_host",
        On::First,
        faults::sees_through_a_lying_host,
    ),
    (
        "lets_go_of_an_unplugged_phc",
        On::First,
        faults::lets_go_of_an_unplugged_phc,
    ),
    (
        "boots_right_from_a_wrong_rtc",
        On::Every,
        boot::from_a_wrong_rtc,
    ),
    ("boots_by_uefi", On::Every, boot::by_uefi),
    (
        "falls_back_to_the_rtc",
        On::Following(Follows::Host),
        boot::falls_back_to_the_rtc,
    ),
    (
        "a_base_image_has_no_test_port",
        On::First,
        boot::a_base_image_has_no_test_port,
    ),
    (
        "keeps_within_its_budget",
        On::First,
        boot::keeps_within_its_budget,
    ),
    (
        "a_liar_among_three_time_servers_is_outvoted",
        On::First,
        ntp::a_liar_among_three_servers_is_outvoted,
    ),
    (
        "is_right_by_time_servers_from_any_rtc",
        On::First,
        ntp::is_right_from_any_rtc,
    ),
    (
        "takes_no_forged_answer_with_nts",
        On::First,
        nts::takes_no_forged_answer,
    ),
    (
        "an_appliance_answers_with_the_right_time",
        On::First,
        appliance::answers_with_the_right_time,
    ),
    (
        "an_appliance_of_packages_answers_with_the_right_time",
        On::First,
        appliance::of_packages_answers_with_the_right_time,
    ),
    (
        "true_time_is_within_its_interval",
        On::First,
        clockbound::true_time_is_within_its_interval,
    ),
    (
        "says_how_far_it_may_be_from_utc",
        On::Following(Follows::Host),
        utc::says_how_far_it_may_be_from_utc,
    ),
    (
        "survives_garbage_on_every_port",
        On::Every,
        hostile::survives_garbage_on_every_port,
    ),
    (
        "a_peer_is_measured_beside_pid_1",
        On::First,
        bench::a_peer_is_measured_beside_pid_1,
    ),
    (
        "refuses_an_intruder_each_way",
        On::First,
        intruder::is_refused_each_way,
    ),
    (
        "recovers_beside_an_intruder",
        On::First,
        intruder::recovers_beside_an_intruder,
    ),
    (
        "is_troubled_by_no_service",
        On::First,
        services::troubled_by_none,
    ),
    (
        "is_told_by_services_how_they_are",
        On::First,
        notify::tells_how_services_are,
    ),
    (
        "is_reset_where_pid_1_stands_still",
        On::First,
        watchdog::resets_a_machine_whose_pid_1_stands_still,
    ),
    ("needs_no_listener", On::First, hostile::needs_no_listener),
    (
        "is_configured_by_seed_and_command_line",
        On::First,
        seed::is_configured_by_seed_and_command_line,
    ),
    (
        "is_configured_by_a_config_drive",
        On::First,
        seed::is_configured_by_a_config_drive,
    ),
    (
        "is_configured_by_credentials",
        On::First,
        seed::is_configured_by_credentials,
    ),
    (
        "takes_one_seed_and_refuses_two",
        On::First,
        seed::takes_one_seed_and_refuses_two,
    ),
    (
        "interfaces_get_what_a_seed_says",
        On::First,
        interfaces::get_what_a_seed_says,
    ),
    (
        "shows_no_service_a_wrong_clock_at_boot",
        On::First,
        firstread::never_wrong,
    ),
    (
        "freezes_a_service_while_its_clock_is_wrong",
        On::Every,
        freeze::reads_no_wrong_time_once_noticed,
    ),
    (
        "reads_no_wrong_time_after_a_restore_that_it_was_frozen_for",
        On::Every,
        snapshot::reads_no_wrong_time_after_a_restore,
    ),
    (
        "answers_a_host_on_the_agents_port",
        On::First,
        agent::answers_a_host_on_its_port,
    ),
    (
        "starts_the_agent_when_its_port_is_there",
        On::First,
        agent::starts_when_its_port_is_there,
    ),
    (
        "mounts_data_disks_by_label",
        On::First,
        disks::mounted_by_label_and_taken_down_clean,
    ),
    (
        "ends_as_chosen_without_a_required_disk",
        On::First,
        disks::without_a_required_disk,
    ),
    ("powers_off_when_told", On::First, power::off_in_each_way),
    (
        "powers_off_when_pid_1_fails",
        On::First,
        power::off_when_pid_1_fails,
    ),
    (
        "powers_off_by_signal_services_first",
        On::First,
        power::off_by_signal_services_first,
    ),
    (
        "restarts_when_told",
        On::First,
        lifetime::restarts_when_told,
    ),
    (
        "a_dead_guest_is_told_with_its_console",
        On::First,
        lifetime::a_dead_guest_is_told,
    ),
    (
        "interrupted_leaves_nothing",
        On::First,
        lifetime::interrupted_leaves_nothing,
    ),
    (
        "an_emulated_host_that_is_interrupted_leaves_nothing",
        On::First,
        lifetime::an_emulated_host_leaves_nothing,
    ),
    (
        "killed_leaves_no_qemu",
        On::First,
        lifetime::killed_leaves_no_qemu,
    ),
];

/// All tests by name, for `--list`, which boots nothing.
pub fn names() -> Vec<Trial> {
    TESTS
        .iter()
        .map(|(name, ..)| Trial::test(*name, || Ok(())))
        .collect()
}

/// Finds the platforms, boots each once to see what it offers, and lists what can run.
pub fn plan(arguments: &Arguments) -> Result<Vec<Trial>> {
    let images = Arc::new(Images::build()?);
    let platforms: Vec<Arc<Platform>> = Platform::all(&images)?.into_iter().map(Arc::new).collect();
    let mut trials = Vec::new();
    for &(name, on, body) in TESTS {
        let mut places = 0;
        for (index, platform) in platforms.iter().enumerate() {
            let fits = match on {
                On::Every => true,
                On::First => index == 0,
                On::Following(Follows::Kvm) => platform.follows == Source::Kvm,
                On::Following(Follows::Host) => platform.follows == Source::Host,
            };
            if fits {
                places += 1;
                let (platform, images) = (Arc::clone(platform), Arc::clone(&images));
                trials.push(Trial::test(
                    format!("{}::{name}", platform.name),
                    move || {
                        body(&platform, &images).map_err(|error| Failed::from(format!("{error:#}")))
                    },
                ));
            }
        }
        if places == 0 && wanted(arguments, name) {
            not_run(name, &why_nowhere(on, &platforms))?;
        }
    }
    Ok(trials)
}

fn wanted(arguments: &Arguments, name: &str) -> bool {
    arguments
        .filter
        .as_ref()
        .is_none_or(|filter| name.contains(filter.as_str()))
}

/// Why a test fits no platform, in the platforms' own words.
fn why_nowhere(on: On, platforms: &[Arc<Platform>]) -> String {
    let wanted = match on {
        On::Following(Follows::Kvm) => "ptp_kvm",
        On::Following(Follows::Host) => "the host's time channel as best source",
        On::Every | On::First => "a QEMU",
    };
    let offers: Vec<String> = platforms.iter().map(|platform| platform.offer()).collect();
    format!("needs {wanted}; {}", offers.join("; "))
}
