//! Puts image, seed and kernel command line over each other, and carries out what comes of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use noonmark_contract::config::network::{NET_SERVICE, NTP_SERVICE};
use noonmark_contract::config::settings::{CMDLINE_PREFIX, Cmdline, Settings};
use noonmark_contract::config::values::SysctlName;
use noonmark_contract::config::{BootConfig, Service, assign_users};
use noonmark_contract::record::{self, Effective, Event, Origin, SeedState};
use noonmark_contract::seed::instance::Instance;
use noonmark_contract::seed::verdict::{Datasource, Document, Verdict};

use super::events::seed_events;
use super::files;

/// The kernel command line.
const CMDLINE: &str = "/proc/cmdline";

/// Where the kernel's settings are.
const SYSCTL: &str = "/proc/sys";

/// What the image says, and what the kernel command line says over it.
#[derive(Debug)]
pub struct Layers {
    image: BootConfig,
    cmdline: Cmdline,
}

/// A configuration that is carried out as far as it can be without the clock.
#[derive(Debug)]
pub struct Applied {
    /// What counts from here on.
    pub config: BootConfig,
    /// Each key's value, and which layer it is from.
    pub effective: BTreeMap<String, Effective>,
    /// What came of the seed.
    pub seed: record::Seed,
    /// What is to be reported.
    pub events: Vec<Event>,
}

impl Layers {
    /// The image's configuration under the kernel command line; what is wrong with that comes
    /// second.
    #[must_use]
    pub fn read(image: BootConfig) -> (Self, Vec<String>) {
        let (text, mut problems) = match fs::read(CMDLINE) {
            Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), Vec::new()),
            Err(error) => (String::new(), vec![format!("{CMDLINE}: {error}")]),
        };
        let mut cmdline = Cmdline::parse(&text);
        problems.append(&mut cmdline.problems);
        let unfit = cmdline.settings.take_unfit(&image);
        problems.extend(
            unfit
                .iter()
                .map(|(key, why)| format!("kernel command line: {CMDLINE_PREFIX}{key}: {why}")),
        );
        (Self { image, cmdline }, problems)
    }

    /// All layers in one, and which layer each key's value is from.
    #[must_use]
    pub fn effective(&self, seed: &[Settings]) -> (BootConfig, BTreeMap<String, Effective>) {
        let mut config = self.image.clone();
        if let Some(sources) = &self.cmdline.sources {
            config.clock.sources.clone_from(sources);
        }
        let mut effective = config.told();
        if self.cmdline.sources.is_some()
            && let Some(sources) = effective.get_mut("clock.sources")
        {
            sources.origin = Origin::Cmdline;
        }
        for settings in seed {
            config.apply(settings, Origin::Seed, &mut effective);
        }
        config.apply(&self.cmdline.settings, Origin::Cmdline, &mut effective);
        (config, effective)
    }

    /// Takes in the seed that was found: its files are written, and the kernel's settings are set. A
    /// document of it that is not allowed changes nothing at all and takes no other with it, unless the
    /// image is strict.
    #[must_use]
    pub fn apply(&self, verdict: Result<Verdict, String>) -> Applied {
        let mut seed = record::Seed::default();
        let mut taken = Vec::new();
        match verdict.map(|verdict| verdict.seed) {
            Ok(Datasource::Absent) if self.image.seed.enabled => seed.state = SeedState::Absent,
            Ok(Datasource::Absent) => {}
            Ok(Datasource::Refused { device, problem }) => {
                seed.device = device;
                refuse(&mut seed, problem);
            }
            Err(problem) => refuse(&mut seed, problem),
            Ok(Datasource::Found { device, documents }) => {
                seed.device = Some(device);
                match self.take(documents, &mut seed) {
                    Ok(documents) => {
                        seed.state = SeedState::Applied;
                        taken = documents;
                    }
                    Err(problem) => refuse(&mut seed, problem),
                }
            }
        }
        let mut events = seed_events(&seed, &taken);
        let (settings, services): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .map(|instance| (instance.settings, instance.services))
            .unzip();
        let (mut config, effective) = self.effective(&settings);
        config.services.extend(services.into_iter().flatten());
        assign_users(&mut config.services);
        drop_idle(&mut config);
        let failures = config
            .sysctl
            .iter()
            .filter_map(|(name, value)| set_sysctl(name, value.as_str()).err());
        events.extend(failures.map(|what| Event::Failure { what }));
        Applied {
            config,
            effective,
            seed,
            events,
        }
    }

    /// What of the documents counts, once their files are written; what doesn't is told in `seed`.
    ///
    /// # Errors
    /// Why nothing of them counts.
    fn take(
        &self,
        documents: Vec<Document>,
        seed: &mut record::Seed,
    ) -> Result<Vec<Instance>, String> {
        let mut names: Vec<String> = Vec::new();
        names.extend(self.image.services.iter().map(|own| own.name.clone()));
        let mut allowed = Vec::new();
        for Document { name, mut instance } in documents {
            for (key, why) in instance.settings.take_unfit(&self.image) {
                instance.ignore(format_args!("{name}: {key}"), &why);
            }
            seed.ignored.append(&mut instance.ignored);
            seed.refused.append(&mut instance.refused);
            match self.check(&instance, &names) {
                Ok(()) => {
                    names.extend(instance.services.iter().map(|service| service.name.clone()));
                    allowed.push((name, instance));
                }
                Err(problem) => seed.refused.push(format!("{name}: {problem}")),
            }
        }
        let mut taken = Vec::new();
        if self.image.seed.strict {
            // Nothing is written before all is known to be right, and then all or nothing.
            if !seed.refused.is_empty() {
                return Err(seed.refused.join("; "));
            }
            let files = allowed
                .iter_mut()
                .flat_map(|(_, one)| std::mem::take(&mut one.files));
            files::write_all("/", &files.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        }
        for (name, mut instance) in allowed {
            match files::write_all("/", &instance.files) {
                Ok(()) => {
                    seed.taken.append(&mut instance.taken);
                    seed.instance_id = instance.id.clone().or(seed.instance_id.take());
                    taken.push(instance);
                }
                Err(problem) => seed.refused.push(format!("{name}: {problem}")),
            }
        }
        match taken.is_empty() {
            true => Err("each of its documents is refused".into()),
            false => Ok(taken),
        }
    }

    /// Checks a document's instance against the image and the services that there are.
    fn check(&self, instance: &Instance, names: &[String]) -> Result<(), String> {
        instance.check().map_err(|refusal| refusal.to_string())?;
        let image = &self.image;
        if !image.seed.programs && !instance.services.is_empty() {
            return Err(
                "it starts programs, and the image's `[seed] programs` forbids that".into(),
            );
        }
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        for (place, service) in instance.services.iter().enumerate() {
            let name = service.name.as_str();
            let others = image.services.iter().chain(&instance.services[..place]);
            if names.contains(&name) {
                return Err(format!("service {name}: there is one of that name already"));
            }
            service
                .check()
                .and_then(|()| service.check_after(names.iter().copied()))
                .and_then(|()| service.check_directories(others))
                .map_err(|error| format!("service {name}: {}: {}", error.key, error.problem))?;
            names.push(name);
        }
        for file in &instance.files {
            let path = file.path.as_str();
            // Such a program may have rights that no seed can give; and a script that it is told to run
            // is as good as the program.
            let named = |service: &Service| {
                service
                    .exec
                    .iter()
                    .any(|word| leads_to(service, word, path))
            };
            if let Some(service) = image.services.iter().find(|service| named(service)) {
                return Err(format!(
                    "the file {path}: the image's service {} runs or is told of it",
                    service.name
                ));
            }
            let below = |folder: &str| {
                let rest = path.strip_prefix(folder);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if image.mounts.iter().any(|disk| below(disk.path.as_str())) {
                return Err(format!("the file {path}: a data disk is mounted there"));
            }
        }
        Ok(())
    }
}

/// Whether a word of a service's command line is this path, or one that leads there from its folder.
fn leads_to(service: &Service, word: &str, path: &str) -> bool {
    let below = |folder: &str| {
        let rest = path.strip_prefix(folder.trim_end_matches('/'));
        rest.and_then(|rest| rest.strip_prefix('/'))
    };
    word == path || below(&service.cwd) == Some(word.trim_start_matches("./"))
}

/// Takes out the image's own services that an instance has turned off.
fn drop_idle(config: &mut BootConfig) {
    let no_network = config.network.interface.is_empty();
    let no_ntp = config.ntp.servers.is_empty();
    config
        .services
        .retain(|service| match service.name.as_str() {
            NET_SERVICE => !no_network,
            NTP_SERVICE => !no_ntp,
            _ => true,
        });
}

fn refuse(seed: &mut record::Seed, problem: String) {
    seed.state = SeedState::Refused;
    seed.problem = Some(problem);
}

/// Sets a kernel setting; a `/` in its name stands for a dot in a folder's.
fn set_sysctl(name: &SysctlName, value: &str) -> Result<(), String> {
    let parts = name.as_str().split('.');
    let path = parts.fold(SYSCTL.to_owned(), |path, part| {
        path + "/" + &part.replace('/', ".")
    });
    fs::write(&path, format!("{value}\n")).map_err(|error: io::Error| {
        format!("sysctl {name} = {value}: {error}; does the kernel have it?")
    })
}

#[cfg(test)]
mod tests {
    use noonmark_contract::config::system::{DataDisk, FileSystem};
    use noonmark_contract::seed::instance::SeedFile;

    use crate::boot::config;

    use super::*;

    fn layers(cmdline: &str) -> Layers {
        let mut image = config::fallback();
        image.seed.enabled = true;
        image.services = vec![Service::new("web", vec!["/bin/web".into()])];
        Layers {
            image,
            cmdline: Cmdline::parse(cmdline),
        }
    }

    fn found(instance: Instance) -> Result<Verdict, String> {
        documents([("user-data", instance)])
    }

    fn documents<const N: usize>(of: [(&str, Instance); N]) -> Result<Verdict, String> {
        let document = |(name, instance): (&str, Instance)| Document {
            name: name.into(),
            instance,
        };
        Ok(Verdict {
            seed: Datasource::Found {
                device: "vda".into(),
                documents: of.map(document).into(),
            },
        })
    }

    fn named(name: &str) -> Instance {
        let mut instance = Instance::default();
        instance.settings.hostname = Some(name.parse().unwrap());
        instance
    }

    #[test]
    fn the_later_layer_has_the_last_word_and_the_status_says_which_that_is() {
        let applied = layers("noonmark.clock.watch_ms=50").apply(found(named("sundial")));
        assert_eq!(applied.config.hostname, "sundial");
        let origin = |key: &str| applied.effective[key].origin;
        assert_eq!(origin("hostname"), Origin::Seed);
        assert_eq!(origin("clock.watch_ms"), Origin::Cmdline);
        assert_eq!(applied.effective["clock.watch_ms"].value, "50");
        assert_eq!(origin("clock.step_us"), Origin::Image);
        assert_eq!(applied.seed.state, SeedState::Applied);
        let over = layers("noonmark.hostname=mine noonmark.clock.sources=rtc");
        let applied = over.apply(found(named("sundial")));
        assert_eq!(applied.config.hostname, "mine");
        assert_eq!(applied.effective["clock.sources"].value, "rtc");
        assert_eq!(applied.effective["clock.sources"].origin, Origin::Cmdline);
    }

    #[test]
    fn a_seed_that_wants_what_the_image_forbids_changes_nothing_at_all() {
        let service = |name: &str| Instance {
            services: vec![Service::new(name, vec!["/bin/x".into()])],
            ..named("sundial")
        };
        let file = |path: &str| Instance {
            files: vec![SeedFile {
                path: path.parse().unwrap(),
                mode: 0o755_i64.try_into().unwrap(),
                uid: 0,
                gid: 0,
                append: false,
                content: vec![],
                length: 0,
            }],
            ..named("sundial")
        };
        let mut layers = layers("");
        layers.image.seed.programs = false;
        layers.image.services.push(Service {
            cwd: "/srv".into(),
            ..Service::new("py", vec!["/bin/python3".into(), "./main.py".into()])
        });
        layers.image.mounts = vec![DataDisk {
            label: "data".parse().unwrap(),
            path: "/data".parse().unwrap(),
            kind: FileSystem::Ext4,
            read_only: false,
            exec: false,
            required: false,
            wait: DataDisk::WAIT,
        }];
        for (instance, named) in [
            (service("other"), "[seed] programs"),
            (file("/bin/web"), "/bin/web: the image's service web runs"),
            (file("/srv/main.py"), "/srv/main.py: the image's service py"),
            (file("/lib/libc.so.6"), "/lib/libc.so.6"),
            (file("/etc/ld.so.preload"), "/etc/ld.so.preload"),
            (file("/init"), "/init"),
            (file("/data/x"), "a data disk is mounted there"),
        ] {
            let applied = layers.apply(found(instance));
            let refused = applied.seed.refused.join("");
            assert!(refused.contains(named), "{refused}");
            assert_eq!(applied.seed.state, SeedState::Refused);
            assert_eq!(applied.config.hostname, "noonmark");
            assert_eq!(applied.config.services.len(), 2);
            let told = |event: &Event| matches!(event, Event::Seed { .. });
            assert!(applied.events.len() == 2 && applied.events.iter().all(told));
        }
        layers.image.seed.programs = true;
        let applied = layers.apply(found(service("web")));
        assert!(applied.seed.refused[0].contains("of that name already"));
        assert_eq!(
            layers.apply(found(service("other"))).config.services.len(),
            3
        );
    }

    #[test]
    fn a_document_that_is_refused_takes_no_other_with_it_unless_the_image_is_strict() {
        let bad = Instance {
            services: vec![Service::new("web", vec!["/bin/x".into()])],
            ..named("other")
        };
        let verdict = || documents([("meta-data", named("sundial")), ("user-data", bad.clone())]);
        let mut layers = layers("");
        let applied = layers.apply(verdict());
        assert_eq!(applied.seed.state, SeedState::Applied);
        assert_eq!(applied.config.hostname, "sundial");
        assert_eq!(applied.config.services.len(), 1);
        assert!(applied.seed.refused[0].starts_with("user-data: service web"));
        layers.image.seed.strict = true;
        let applied = layers.apply(verdict());
        assert_eq!(applied.seed.state, SeedState::Refused);
        assert_eq!(applied.config.hostname, "noonmark");
        assert!(applied.seed.problem.unwrap().contains("service web"));
        let right = documents([("meta-data", named("one")), ("user-data", named("two"))]);
        assert_eq!(layers.apply(right).config.hostname, "two");
    }

    #[test]
    fn a_reader_without_an_answer_is_told_and_the_image_stands() {
        let applied = layers("").apply(Err("it crashed".into()));
        assert_eq!(applied.seed.problem.as_deref(), Some("it crashed"));
        assert_eq!(applied.config.services.len(), 1);
    }
}
