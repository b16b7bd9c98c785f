//! The memory of a process, as root sees it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

/// All memory that a process can write to: heap, stacks and the rest. `None`: this user may not read it, and that is said.
///
/// Where `CI` is set, that is a failure: the cases that read memory are meant to run there.
#[must_use]
pub fn writable(case: &str, process: u32) -> Option<Vec<u8>> {
    match read(process) {
        Ok(memory) => Some(memory),
        Err(error) => {
            let told = format!("{case}: the memory of process {process} cannot be read ({error}); run it as root");
            assert!(std::env::var_os("CI").is_none(), "{told}");
            eprintln!("not run: {told}");
            None
        }
    }
}

fn read(process: u32) -> std::io::Result<Vec<u8>> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps"))?;
    let mut file = File::open(format!("/proc/{process}/mem"))?;
    let mut memory = Vec::new();
    for line in maps.lines() {
        // START-END PERMISSIONS …, hexadecimal.
        let mut words = line.split_whitespace();
        let (Some(range), Some(permissions)) = (words.next(), words.next()) else { continue };
        // What the kernel lends cannot be read.
        if !permissions.starts_with("rw") || line.ends_with("[vvar]") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("a range");
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).expect("a number"));
        file.seek(SeekFrom::Start(start))?;
        // The process goes on meanwhile: what it gave back is no memory of it any more.
        drop(file.by_ref().take(end - start).read_to_end(&mut memory));
    }
    if memory.is_empty() { Err(std::io::ErrorKind::PermissionDenied.into()) } else { Ok(memory) }
}
