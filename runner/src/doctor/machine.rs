//! What the operating system permits this process.

use std::path::{Component, Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::{Check, Finding};

/// Of the process without a run, and of each run, in bytes: a run of 1,000 to 10,000 objects peaks at 47 to 71 MiB in all
/// (docs/performance.md), and four of them fit into the 256 MiB that the chart sets.
const IDLE: u64 = 32 * MIB;
const RUN: u64 = 48 * MIB;
/// Below this not even one run fits.
const LEAST: u64 = 64 * MIB;
const MIB: u64 = 1024 * 1024;

/// Four runs with their connections to Salesforce, the stores', probes and files need about a hundred; below this a burst
/// does not fit.
const FEWEST: u64 = 256;
/// What systems usually permit.
const USUAL: u64 = 1024;

pub(super) fn look(slots: u32) -> Vec<Finding> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = memory_limit(Path::new("/sys/fs/cgroup"), &groups);
    vec![memory(limit, slots), descriptors(getrlimit(Resource::Nofile).current)]
}

fn memory(limit: Option<u64>, slots: u32) -> Finding {
    let Some(limit) = limit else { return Finding::ok(Check::Memory, "no cgroup limits it") };
    let enough = IDLE + RUN * u64::from(slots);
    let seen = format!("the cgroup's limit is {} MiB, for {slots} runs at once", limit / MIB);
    let advice =
        format!("raise the limit (`resources.limits.memory` of the chart) to {} MiB, or lower `slots`", enough / MIB);
    match limit {
        ..LEAST => Finding::fail(Check::Memory, &seen, &advice),
        limit if limit < enough => Finding::warn(Check::Memory, &seen, &advice),
        _ => Finding::ok(Check::Memory, &seen),
    }
}

fn descriptors(limit: Option<u64>) -> Finding {
    let Some(limit) = limit else { return Finding::ok(Check::Descriptors, "no limit") };
    let seen = format!("at most {limit} open files and connections");
    let advice =
        format!("raise the limit of open files to {USUAL} (`ulimit -n`, `LimitNOFILE=`, the container runtime)");
    match limit {
        ..FEWEST => Finding::fail(Check::Descriptors, &seen, &advice),
        FEWEST..USUAL => Finding::warn(Check::Descriptors, &seen, &advice),
        _ => Finding::ok(Check::Descriptors, &seen),
    }
}

/// The least limit of the cgroups that a process is in, by its `/proc/self/cgroup`; `None`: none, or none is seen. In a
/// container the path may be the host's and not be there: then the root's limit is the container's.
fn memory_limit(root: &Path, groups: &str) -> Option<u64> {
    let of_line = |line: &str| -> Option<u64> {
        let mut parts = line.splitn(3, ':');
        let (_id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (base, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            of_v1 if of_v1.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        // A group outside of what a container sees begins with `..`.
        let within = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
        let group = base.join(within.collect::<PathBuf>());
        group
            .ancestors()
            .take_while(|group| group.starts_with(&base))
            .filter_map(|group| limit_in(group.join(file)))
            .min()
    };
    groups.lines().filter_map(of_line).min()
}

/// `max`, and the largest number of pages that cgroups v1 write for it, are no limit.
fn limit_in(file: PathBuf) -> Option<u64> {
    let limit = std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()?;
    (limit < 1 << 60).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn the_least_limit_of_the_groups_above_counts_in_both_versions() {
        let two = tree(&[("memory.max", "max\n"), ("pod/memory.max", "100\n"), ("pod/agent/memory.max", "200\n")]);
        assert_eq!(memory_limit(two.path(), "0::/pod/agent\n"), Some(100));
        assert_eq!(memory_limit(two.path(), "0::/\n"), None);
        let one = tree(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/docker/memory.limit_in_bytes", "300\n"),
        ]);
        assert_eq!(memory_limit(one.path(), "4:cpu,cpuacct:/docker\n3:memory:/docker\n"), Some(300));
        assert_eq!(memory_limit(one.path(), "3:memory:/\n"), None);
    }

    #[test]
    fn a_container_that_sees_its_own_group_as_the_root_has_that_limit() {
        let tree = tree(&[("memory.max", "268435456\n")]);
        assert_eq!(memory_limit(tree.path(), "0::/../../kubepods/pod1/c1\n"), Some(256 * MIB));
        assert_eq!(memory_limit(tree.path(), ""), None);
    }

    #[test]
    fn a_limit_without_room_for_a_run_fails_and_one_without_room_for_all_of_them_warns() {
        for (limit, slots, status) in [
            (None, 4, Status::Ok),
            (Some(256 * MIB), 4, Status::Ok),
            (Some(128 * MIB), 4, Status::Warn),
            (Some(128 * MIB), 1, Status::Ok),
            (Some(48 * MIB), 1, Status::Fail),
        ] {
            let found = memory(limit, slots);
            assert_eq!(found.status, status, "{found:?}");
            assert_eq!(found.advice.is_some(), status != Status::Ok, "{found:?}");
        }
    }

    #[test]
    fn few_descriptors_fail_and_fewer_than_usual_warn() {
        let status = |limit| descriptors(limit).status;
        assert_eq!(
            [status(Some(255)), status(Some(1023)), status(Some(1024)), status(None)],
            [Status::Fail, Status::Warn, Status::Ok, Status::Ok]
        );
    }
}
