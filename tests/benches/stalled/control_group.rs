//! A limit of memory, as Linux keeps it: version 1 of control groups, or version 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hybrid_runner_tests::agent_files::AgentFiles;
use hybrid_runner_tests::processes::Running;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// The names of what is read and written, which differ between the versions.
#[derive(Debug)]
struct Files {
    limit: &'static str,
    /// So that nothing is swapped out instead.
    swap: (&'static str, u64),
    most: &'static str,
    /// The file with the count, and its line in it, if it has several.
    met: (&'static str, &'static str),
}

const ONE: Files = Files {
    limit: "memory.limit_in_bytes",
    swap: ("memory.swappiness", 0),
    most: "memory.max_usage_in_bytes",
    met: ("memory.failcnt", ""),
};
const TWO: Files =
    Files { limit: "memory.max", swap: ("memory.swap.max", 0), most: "memory.peak", met: ("memory.events", "max ") };

/// A group below this process' own, which is gone with it.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    folder: PathBuf,
    files: &'static Files,
}

impl ControlGroup {
    /// A new one with this limit, in bytes. None: this user may not, or the machine has none.
    pub(crate) fn with_limit(bytes: u64) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        // NUMBER:CONTROLLERS:PATH; version 2 has no controllers here (cgroups(7)).
        let own = |controllers: &str| {
            let mut words = groups.lines().map(|line| line.splitn(3, ':').skip(1));
            words.find_map(|mut words| (words.next()? == controllers).then_some(words.next()?))
        };
        let (root, own, files) = match own("memory") {
            Some(own) => ("/sys/fs/cgroup/memory", own, &ONE),
            None => ("/sys/fs/cgroup", own("")?, &TWO),
        };
        let name = format!("hybrid-runner-bench-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = Path::new(root).join(own.trim_start_matches('/')).join(name);
        fs::create_dir(&folder).ok()?;
        let group = Self { folder, files };
        fs::write(group.folder.join(files.limit), bytes.to_string()).ok()?;
        // A machine without swap may lack the file.
        drop(fs::write(group.folder.join(files.swap.0), files.swap.1.to_string()));
        Some(group)
    }

    /// Starts an agent in it.
    pub(crate) fn start(&self, files: &AgentFiles, program: &Path) -> Running {
        let enter = r#"echo $$ > "$0" && exec "$@""#;
        let (processes, program) = (self.folder.join("cgroup.procs"), program.to_str().unwrap());
        files.start_as(Path::new("sh"), &["-c", enter, processes.to_str().unwrap(), program])
    }

    /// The most that was charged to it, in MiB.
    pub(crate) fn most(&self) -> f64 {
        self.read(self.files.most, "").parse::<f64>().unwrap() / MEBIBYTE
    }

    /// How often its limit was met, and pages of files had to go.
    pub(crate) fn met(&self) -> u64 {
        let (file, line) = self.files.met;
        self.read(file, line).parse().unwrap()
    }

    fn read(&self, file: &str, line: &str) -> String {
        let text = fs::read_to_string(self.folder.join(file)).unwrap();
        let value = text.lines().find_map(|text| text.strip_prefix(line));
        value.unwrap_or_else(|| panic!("no {line} in {file}:\n{text}")).trim().to_owned()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // It can go once its processes are gone; a bench that panicked may leave an empty one.
        drop(fs::remove_dir(&self.folder));
    }
}
