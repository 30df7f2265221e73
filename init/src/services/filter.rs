//! Which system calls a service is refused, by seccomp(2): those that act on the machine, on PID 1, or
//! on parts of the kernel that few programs use and many flaws were found in. A deny list, as the
//! defaults of service managers and container runtimes are; each call is refused with EPERM.
//!
//! A capability that the image gives a service opens the calls that it is for. Programs for other
//! processors than x86-64, as 32-bit ones, are ended at their first system call.

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use noonmark_contract::config::{Service, SystemCallFilter};
use rustix::thread::CapabilitySet;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::capabilities;

/// PID 1.
const INIT: u64 = 1;

/// Set in the numbers of the x32 calling convention (arch/x86/include/uapi/asm/unistd.h), where the
/// kernel has that.
const X32_BIT: i64 = 0x4000_0000;

/// The denied calls that have other numbers there (arch/x86/entry/syscalls/syscall_64.tbl): ptrace,
/// rt_sigqueueinfo, kexec_load, move_pages, rt_tgsigqueueinfo, process_vm_readv and process_vm_writev.
const X32_OWN: [i64; 7] = [521, 524, 528, 533, 536, 539, 540];

/// Calls that are refused, unless the service has one of these capabilities.
const DENIED: [(CapabilitySet, &[c_long]); 13] = [
    (
        CapabilitySet::SYS_TIME,
        // adjtimex(2) also reads, for everybody; the kernel refuses to change anything by it.
        &[libc::SYS_clock_settime, libc::SYS_settimeofday],
    ),
    (
        CapabilitySet::SYS_MODULE,
        &[
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
        ],
    ),
    (
        CapabilitySet::SYS_BOOT,
        &[
            libc::SYS_reboot,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
        ],
    ),
    (
        CapabilitySet::SYS_ADMIN,
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
            libc::SYS_fanotify_init,
            libc::SYS_lookup_dcookie,
        ],
    ),
    (
        CapabilitySet::SYS_ADMIN.union(CapabilitySet::BPF),
        &[libc::SYS_bpf],
    ),
    (
        CapabilitySet::SYS_ADMIN.union(CapabilitySet::PERFMON),
        &[libc::SYS_perf_event_open],
    ),
    (
        CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYSLOG),
        &[libc::SYS_syslog],
    ),
    (
        CapabilitySet::SYS_PTRACE,
        &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_kcmp,
            libc::SYS_pidfd_getfd,
        ],
    ),
    (
        CapabilitySet::SYS_RAWIO,
        &[libc::SYS_iopl, libc::SYS_ioperm],
    ),
    (CapabilitySet::SYS_PACCT, &[libc::SYS_acct]),
    (CapabilitySet::SYS_TTY_CONFIG, &[libc::SYS_vhangup]),
    (
        CapabilitySet::DAC_READ_SEARCH,
        &[libc::SYS_open_by_handle_at],
    ),
    (
        // Of no use to any capability; `system_call_filter = "none"` opens them.
        CapabilitySet::empty(),
        &[
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_move_pages,
            libc::SYS_migrate_pages,
            libc::SYS_personality,
            libc::SYS_uselib,
            libc::SYS_ustat,
            libc::SYS_sysfs,
            libc::SYS__sysctl,
            libc::SYS_modify_ldt,
        ],
    ),
];

/// Calls by which one process changes another, with the place of the argument that says which: refused
/// where that is PID 1, which a service of user 0 could otherwise slow down, starve or signal.
const AIMED: [(c_long, u8); 11] = [
    (libc::SYS_kill, 0),
    (libc::SYS_tkill, 0),
    (libc::SYS_tgkill, 0),
    (libc::SYS_rt_sigqueueinfo, 0),
    (libc::SYS_rt_tgsigqueueinfo, 0),
    (libc::SYS_pidfd_open, 0),
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setattr, 0),
];

/// Calls that make or enter namespaces; clone(2) does so by one of the flags below.
const NAMESPACES: [c_long; 2] = [libc::SYS_unshare, libc::SYS_setns];

/// The flags of clone(2) for namespaces (include/uapi/linux/sched.h).
const NAMESPACE_FLAGS: [c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Says that there is no clone3(2), by either number: its flags are in memory, where no filter can look,
/// and libraries then use clone(2). The other filter sees to the calling convention.
const WITHOUT_CLONE3: [sock_filter; 5] = {
    const fn instruction(code: u32, otherwise: u8, k: u32) -> sock_filter {
        sock_filter {
            code: code as u16,
            jt: 0,
            jf: otherwise,
            k,
        }
    }
    [
        // `nr`, the first field of `seccomp_data` (include/uapi/linux/seccomp.h)
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_ALU | libc::BPF_AND, 0, !(X32_BIT as u32)),
        instruction(libc::BPF_JMP | libc::BPF_JEQ, 1, libc::SYS_clone3 as u32),
        instruction(
            libc::BPF_RET,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        ),
        instruction(libc::BPF_RET, 0, libc::SECCOMP_RET_ALLOW),
    ]
};

/// The signals among them; who may end the machine may send PID 1 one.
const SIGNALS: [c_long; 2] = [libc::SYS_kill, libc::SYS_tgkill];

/// Priorities, which are set for a process, a group or a user: the first argument says for which of
/// these, the second for whom; by a user that is 0, the caller's, they reach PID 1 too.
const PRIORITIES: [(c_long, u64, u64); 2] = [
    (libc::SYS_setpriority, 0, 2),
    // IOPRIO_WHO_PROCESS and IOPRIO_WHO_USER (include/uapi/linux/ioprio.h)
    (libc::SYS_ioprio_set, 1, 3),
];

/// The filters for a service; none where the image wants it to have none.
///
/// # Errors
/// As a text for the service's report; it is not started then.
pub fn compile(service: &Service) -> Result<Vec<BpfProgram>, String> {
    match service.system_call_filter {
        SystemCallFilter::None => Ok(Vec::new()),
        SystemCallFilter::Default => {
            programs(capabilities::kept(service), service.restrict_namespaces)
                .map_err(|error| format!("system call filter: {error}"))
        }
    }
}

/// The filters for a process that has these capabilities, and is refused namespaces or not; CAP_SYS_ADMIN
/// has a use for those too.
///
/// # Errors
/// As `seccompiler` compiles filters, which these are all fit for.
pub fn programs(
    kept: CapabilitySet,
    restrict_namespaces: bool,
) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let restricted = restrict_namespaces && !kept.contains(CapabilitySet::SYS_ADMIN);
    let filter = SeccompFilter::new(
        rules(kept, restricted)?,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        TargetArch::x86_64,
    )?;
    let mut programs: Vec<BpfProgram> = vec![filter.try_into()?];
    if restricted {
        programs.push(WITHOUT_CLONE3.to_vec());
    }
    Ok(programs)
}

fn rules(
    kept: CapabilitySet,
    restricted: bool,
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let argument = |place: u8, value: u64| {
        // The kernel takes the lower half for each of these, whatever is in the upper.
        SeccompCondition::new(place, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (capabilities, calls) in DENIED {
        if !kept.intersects(capabilities) {
            for &call in calls {
                rules.insert(call, Vec::new());
            }
        }
    }
    if restricted {
        for call in NAMESPACES {
            rules.insert(call, Vec::new());
        }
        let mut flagged = Vec::new();
        for flag in NAMESPACE_FLAGS {
            let flag = u64::from(flag.unsigned_abs());
            let set = SeccompCmpOp::MaskedEq(flag);
            let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, set, flag)?;
            flagged.push(SeccompRule::new(vec![condition])?);
        }
        rules.insert(libc::SYS_clone, flagged);
    }
    for (call, place) in AIMED {
        let may_signal = kept.contains(CapabilitySet::SYS_BOOT) && SIGNALS.contains(&call);
        if !may_signal {
            let rule = SeccompRule::new(vec![argument(place, INIT)?])?;
            rules.insert(call, vec![rule]);
        }
    }
    for (call, process, user) in PRIORITIES {
        let init = SeccompRule::new(vec![argument(0, process)?, argument(1, INIT)?])?;
        let all = SeccompRule::new(vec![argument(0, user)?])?;
        rules.insert(call, vec![init, all]);
    }
    let mut x32 = Vec::new();
    for (number, same) in &rules {
        x32.push((number | X32_BIT, same.clone()));
    }
    for (number, same) in x32 {
        rules.insert(number, same);
    }
    for number in X32_OWN {
        rules.insert(number | X32_BIT, Vec::new());
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use noonmark_contract::config::Capability;

    use super::*;

    fn denied(capabilities: &[Capability]) -> BTreeMap<i64, Vec<SeccompRule>> {
        let service = Service {
            capabilities: capabilities.to_vec(),
            ..Service::new("a", vec!["/a".into()])
        };
        rules(capabilities::kept(&service), true).unwrap()
    }

    #[test]
    fn what_acts_on_the_machine_is_denied_by_both_numbers_unless_a_capability_is_for_it() {
        let usual = denied(&[]);
        for call in [libc::SYS_clock_settime, libc::SYS_reboot, libc::SYS_mount] {
            assert_eq!(usual.get(&call), Some(&Vec::new()));
            assert_eq!(usual.get(&(call | X32_BIT)), Some(&Vec::new()));
        }
        let clock = denied(&[Capability::SYS_TIME]);
        assert!(!clock.contains_key(&libc::SYS_clock_settime));
        assert!(clock.contains_key(&libc::SYS_reboot));
    }

    #[test]
    fn pid_1_is_out_of_reach_and_others_are_not() {
        let usual = denied(&[]);
        for (call, _) in AIMED {
            assert_eq!(usual[&call].len(), 1, "{call}");
        }
        let ends_machine = denied(&[Capability::SYS_BOOT]);
        assert!(!ends_machine.contains_key(&libc::SYS_kill));
        assert!(ends_machine.contains_key(&libc::SYS_sched_setaffinity));
    }

    #[test]
    fn a_filter_fits_what_the_kernel_takes_and_none_is_none() {
        // BPF_MAXINSNS (include/uapi/linux/bpf_common.h)
        let mut service = Service::new("a", vec!["/a".into()]);
        let compiled = compile(&service).unwrap();
        assert_eq!(compiled.len(), 2);
        for program in compiled {
            assert!(program.len() <= 4096, "{} instructions", program.len());
        }
        service.system_call_filter = SystemCallFilter::None;
        assert!(compile(&service).unwrap().is_empty());
    }

    #[test]
    fn namespaces_are_for_who_asks_for_them() {
        let mut service = Service::new("a", vec!["/a".into()]);
        let usual = rules(capabilities::kept(&service), true).unwrap();
        assert!(usual.contains_key(&libc::SYS_unshare));
        assert_eq!(usual[&libc::SYS_clone].len(), NAMESPACE_FLAGS.len());
        service.restrict_namespaces = false;
        assert_eq!(compile(&service).unwrap().len(), 1);
        let asks = rules(capabilities::kept(&service), false).unwrap();
        assert!(!asks.contains_key(&libc::SYS_unshare) && !asks.contains_key(&libc::SYS_clone));
    }
}
