//! The checks that make a [`Spec`] of what `guest.toml` says.

use std::ops::RangeInclusive;
use std::path::Path;

use noonmark_contract::config::values::{
    IntervalMs, MakestepMs, MaxSlewPpm, PanicS, RtcGraceMs, StepUs, WatchMs, check_hostname,
};
use noonmark_contract::config::{ClockConfig, Service, Start, StatusConfig};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Ppb, Utc};
use toml::Spanned;
use toml::value::Datetime;

use crate::fat;
use crate::text::{TextError, TomlDocument};

use super::description::Description;
use super::raw::{Key, RawClock, RawImage, RawKernel, RawSpec};
use super::value::{Checked, number, package_name, path, text};
use super::{
    Budget, ContentSpec, DEFAULT_KERNEL_PACKAGE, DEFAULT_SOURCE_DATE, ImageSpec, InitrdSpec,
    KernelSource, KernelSpec, ModulesSpec, NANOS_PER_SECOND, Spec, VmSpec,
};
use super::{content, entries, mounts, network, packaged, system};

/// 1980-01-01T00:00:00Z: a FAT file system can't say anything earlier.
const EARLIEST_SOURCE_DATE_S: i64 = 315_532_800;

/// 2100-01-01T00:00:00Z: within what FAT (2107), newc (2106) and PE (2106) can say.
const LATEST_SOURCE_DATE_S: i64 = 4_102_444_800;

/// TAI has been ahead of UTC by 10 s at least since there are leap seconds; 0 is none at all.
const TAI_OFFSETS_S: RangeInclusive<u32> = 0..=999;

impl Spec {
    /// Parses `guest.toml`. `file` is for messages, and where files that it extends are looked for.
    ///
    /// # Errors
    /// What is wrong, with file, line, column and key.
    pub fn parse(text: &str, file: &Path) -> Result<Self, TextError> {
        Self::of(&Description::new(text.to_owned(), file)?)
    }

    /// Parses a description that has been read.
    ///
    /// # Errors
    /// As [`Spec::parse`].
    pub fn of(description: &Description) -> Result<Self, TextError> {
        check(description.parse()?, &description.document())
    }
}

/// Makes a [`Spec`] of what was written.
fn check(raw: RawSpec, doc: &TomlDocument<'_>) -> Checked<Spec> {
    let vm = VmSpec::default();
    let clock = clock(raw.clock, doc)?;
    let network = network::network(raw.network, doc)?;
    let files = entries::files(raw.file, doc)?;
    let content = ContentSpec {
        packages: packaged::packages(raw.package, doc)?,
        programs: packaged::programs(raw.program, doc)?,
        ..content::content(raw.tree, raw.symlink, raw.dir, &files, doc)?
    };
    let mounts = mounts::mounts(raw.mount, &files, doc)?;
    let spec = Spec {
        image: image(raw.image, doc)?,
        kernel: kernel(raw.kernel, doc)?,
        modules: ModulesSpec {
            load: modules(raw.modules.load, "modules.load", doc)?,
            optional: modules(raw.modules.optional, "modules.optional", doc)?,
            lock: raw.modules.lock.unwrap_or(true),
        },
        ntp: network::ntp(raw.ntp, &clock, &network, &files, doc)?,
        clock,
        network,
        status: StatusConfig {
            interval: number(
                raw.status.interval_ms,
                "status.interval_ms",
                IntervalMs::RANGE,
                doc,
            )?
            .map_or(StatusConfig::default().interval, |ms| {
                Nanos::from_millis(ms.into())
            }),
            file: raw.status.file,
            clockbound: raw.status.clockbound,
        },
        services: entries::services(raw.service, &mounts, doc)?,
        mounts,
        files,
        content,
        seed: system::seed(&raw.seed, doc)?,
        sysctl: system::sysctl(raw.sysctl, doc)?,
        tmpfs: system::tmpfs(&raw.tmpfs, doc)?,
        watchdog: system::watchdog(raw.watchdog, doc)?,
        agent: system::agent(raw.agent, doc)?,
        initrd: InitrdSpec {
            compression: raw.initrd.compression.unwrap_or_default(),
        },
        budget: Budget {
            disk_mib: number(raw.budget.disk_mib, "budget.disk_mib", 1..=1 << 20, doc)?,
            initrd_kib: number(raw.budget.initrd_kib, "budget.initrd_kib", 1..=1 << 20, doc)?,
            init_kib: number(raw.budget.init_kib, "budget.init_kib", 1..=1 << 20, doc)?,
        },
        vm: VmSpec {
            vcpus: number(raw.vm.vcpus, "vm.vcpus", 1..=255, doc)?.unwrap_or(vm.vcpus),
            memory_mib: number(raw.vm.memory_mib, "vm.memory_mib", 128..=1 << 20, doc)?
                .unwrap_or(vm.memory_mib),
        },
    };
    every_service_can_start(&spec, doc)?;
    if spec.status.clockbound && spec.clock.sources.is_empty() {
        let problem = "PID 1 knows no bound of a clock that it leaves to another program; give it \
                       a source, or leave the key out";
        return Err(doc.error(None, "status.clockbound", problem));
    }
    Ok(spec)
}

/// Where PID 1 leaves the clock alone, it never knows the clock to be right.
fn every_service_can_start(spec: &Spec, doc: &TomlDocument<'_>) -> Checked<()> {
    let waits = |service: &&Service| service.start == Start::ClockSynced;
    match spec.services.iter().find(waits) {
        Some(service) if spec.clock.sources.is_empty() => Err(doc.error(
            None,
            "clock.sources",
            format!(
                "without a source the service `{}` would wait for the clock for ever; give it \
                 `start = \"boot\"`",
                service.name
            ),
        )),
        _ => Ok(()),
    }
}

fn image(raw: RawImage, doc: &TomlDocument<'_>) -> Checked<ImageSpec> {
    let name = match raw.name {
        Some(name) => text(name, "image.name", doc, |name| {
            let good = (1..=36).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            good.then_some(())
                .ok_or("expected 1 to 36 of `a` to `z`, `0` to `9` and `-`")
        })?,
        None => "noonmark".into(),
    };
    let hostname = match raw.hostname {
        Some(hostname) => text(hostname, "image.hostname", doc, check_hostname)?,
        None => name.clone(),
    };
    let label = match raw.label {
        Some(label) => text(label, "image.label", doc, |label| {
            fat::is_label(label)
                .then_some(())
                .ok_or("expected 1 to 11 of `A` to `Z`, `0` to `9`, `-` and `_`")
        })?,
        None => "NOONMARK".into(),
    };
    Ok(ImageSpec {
        name,
        hostname,
        label,
        source_date: source_date(raw.source_date, doc)?,
        on_failure: raw.on_failure.unwrap_or_default(),
    })
}

fn source_date(raw: Key<toml::Value>, doc: &TomlDocument<'_>) -> Checked<Utc> {
    let Some(value) = raw else {
        return Ok(DEFAULT_SOURCE_DATE);
    };
    let seconds = match value.get_ref() {
        toml::Value::Integer(seconds) => Some(*seconds),
        toml::Value::Datetime(datetime) => unix_seconds(datetime),
        _ => None,
    };
    seconds
        .filter(|s| (EARLIEST_SOURCE_DATE_S..=LATEST_SOURCE_DATE_S).contains(s))
        .map(|s| Utc(s * NANOS_PER_SECOND))
        .ok_or_else(|| {
            doc.error(
                Some(value.span()),
                "image.source_date",
                "expected an instant like 2026-01-01T00:00:00Z (not in quotes, with its zone), or \
                 seconds since 1970, from 1980 to 2100",
            )
        })
}

/// Seconds since 1970 of an offset date-time; fractions of a second are cut off. None for a date,
/// a time or a local date-time, which name no instant.
fn unix_seconds(datetime: &Datetime) -> Option<i64> {
    let instant: jiff::Timestamp = datetime.to_string().parse().ok()?;
    Some(instant.as_second())
}

fn kernel(raw: RawKernel, doc: &TomlDocument<'_>) -> Checked<KernelSpec> {
    let name = |key, path: &str| package_name(key, path, doc);
    let source = match (raw.image, raw.modules) {
        (None, None) => KernelSource::Package {
            name: raw
                .package
                .map(|key| name(key, "kernel.package"))
                .transpose()?
                .unwrap_or_else(|| DEFAULT_KERNEL_PACKAGE.into()),
            suite: raw.suite.map(|key| name(key, "kernel.suite")).transpose()?,
        },
        (Some(image), Some(modules)) => {
            if let Some(key) = raw.package.or(raw.suite) {
                return Err(doc.error(
                    Some(key.span()),
                    "kernel",
                    "expected either `package` (and `suite`), or `image` and `modules`, not both",
                ));
            }
            KernelSource::Files {
                image: path(image, "kernel.image", doc)?,
                modules: path(modules, "kernel.modules", doc)?,
            }
        }
        (Some(key), None) | (None, Some(key)) => {
            return Err(doc.error(
                Some(key.span()),
                "kernel",
                "`image` and `modules` go together: a bzImage and its /lib/modules/RELEASE folder",
            ));
        }
    };
    let cmdline = match raw.cmdline {
        Some(cmdline) => text(cmdline, "kernel.cmdline", doc, |text| {
            (text.len() <= 1024 && text.bytes().all(|b| (b' '..=b'~').contains(&b)))
                .then_some(())
                .ok_or("expected printable ASCII on one line, at most 1024 characters")
        })?,
        None => String::new(),
    };
    Ok(KernelSpec {
        source,
        cmdline: cmdline.trim().into(),
    })
}

fn modules(raw: Vec<Spanned<String>>, key: &str, doc: &TomlDocument<'_>) -> Checked<Vec<String>> {
    raw.into_iter()
        .map(|name| {
            let name = text(name, key, doc, |name| {
                let good = !name.is_empty()
                    && name.len() <= 55
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                good.then_some(())
                    .ok_or("expected a module's name, like `virtio_net`, without folder and `.ko`")
            })?;
            Ok(name.replace('-', "_"))
        })
        .collect()
}

fn clock(raw: RawClock, doc: &TomlDocument<'_>) -> Checked<ClockConfig> {
    let default = ClockConfig::default();
    let sources = match raw.sources {
        None => default.sources,
        Some(list) => {
            let mut sources: Vec<Source> = Vec::new();
            for name in list.into_inner() {
                let span = Some(name.span());
                let source: Source = name
                    .get_ref()
                    .parse()
                    .map_err(|e| doc.error(span.clone(), "clock.sources", format!("{e}")))?;
                if sources.contains(&source) {
                    return Err(doc.error(
                        span,
                        "clock.sources",
                        format!("`{source}` is there twice"),
                    ));
                }
                sources.push(source);
            }
            sources
        }
    };
    let tai_offset = number(
        raw.phc_tai_offset_s,
        "clock.phc_tai_offset_s",
        TAI_OFFSETS_S,
        doc,
    )?;
    Ok(ClockConfig {
        rtcsync: raw.rtcsync.unwrap_or(!sources.contains(&Source::Rtc)),
        phc_tai_offset_s: tai_offset.unwrap_or(0).cast_signed(),
        sources,
        step: number(raw.step_us, "clock.step_us", StepUs::RANGE, doc)?
            .map_or(default.step, |us| Nanos::from_micros(us.into())),
        makestep: number(raw.makestep_ms, "clock.makestep_ms", MakestepMs::RANGE, doc)?
            .map_or(default.makestep, |ms| Nanos::from_millis(ms.into())),
        max_slew: number(
            raw.max_slew_ppm,
            "clock.max_slew_ppm",
            MaxSlewPpm::RANGE,
            doc,
        )?
        .map_or(default.max_slew, |ppm| Ppb(f64::from(ppm) * 1e3)),
        panic: number(raw.panic_s, "clock.panic_s", PanicS::RANGE, doc)?
            .filter(|&seconds| seconds > 0)
            .map(|seconds| Nanos::from_secs(seconds.into())),
        rtc_grace: number(
            raw.rtc_grace_ms,
            "clock.rtc_grace_ms",
            RtcGraceMs::RANGE,
            doc,
        )?
        .map_or(default.rtc_grace, |ms| Nanos::from_millis(ms.into())),
        watch: number(raw.watch_ms, "clock.watch_ms", WatchMs::RANGE, doc)?
            .map_or(default.watch, |ms| Nanos::from_millis(ms.into())),
    })
}
