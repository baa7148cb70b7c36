//! Which files a process runs code of: its mappings, as `/proc/PID/maps` lists them.

use std::path::PathBuf;

/// A file on its file system, as the kernel's list of mappings names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) inode: u64,
}

/// A file that is mapped to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) key: Key,
    /// The name of its first such mapping in `/proc/PID/map_files`.
    pub(super) range: String,
    /// In the file system that the process sees; a deleted file has lost it, and may have left it to another.
    pub(super) path: PathBuf,
    pub(super) is_deleted: bool,
}

/// The kernel's word behind the path of a file that has none any more.
const DELETED: &str = " (deleted)";

/// Each file of which something may be run, once.
pub(super) fn executable(maps: &str) -> Vec<Mapped> {
    let mut files: Vec<Mapped> = Vec::new();
    for mapped in maps.lines().filter_map(line) {
        // The mappings of a file follow each other, but for what was loaded twice.
        if files.iter().rev().all(|other| other.key != mapped.key) {
            files.push(mapped);
        }
    }
    files
}

/// From a line like `7f12a0000000-7f12a0021000 r-xp 0001f000 fe:00 1234    /usr/lib/libssl.so.3`; none for memory
/// without a file, and for what may not be run.
fn line(line: &str) -> Option<Mapped> {
    let mut columns = line.splitn(5, ' ');
    let range = columns.next()?;
    let permissions = columns.next()?;
    let _offset = columns.next()?;
    let device = columns.next()?;
    let (inode, path) = columns.next()?.split_once(' ')?;
    let inode: u64 = inode.parse().ok()?;
    if inode == 0 || permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let (major, minor) = device.split_once(':')?;
    let key = Key {
        major: u32::from_str_radix(major, 16).ok()?,
        minor: u32::from_str_radix(minor, 16).ok()?,
        inode,
    };
    let path = path.trim_start();
    let (path, is_deleted) = match path.strip_suffix(DELETED) {
        Some(path) => (path, true),
        None => (path, false),
    };
    Some(Mapped {
        key,
        range: file_name(range)?,
        // The kernel writes a line's end within a name in this way, and nothing else.
        path: path.replace("\\012", "\n").into(),
        is_deleted,
    })
}

/// In `maps` addresses have eight digits at least, in the names of `map_files` as many as they need.
fn file_name(range: &str) -> Option<String> {
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16));
    Some(format!("{:x}-{:x}", start.ok()?, end.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-05a00000 r-xp 00000000 fe:01 77                                 /opt/my node/bin/node
06400000-06500000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000001000 r-xp 00000000 00:00 0 
7f0000200000-7f000021f000 r--p 00000000 fe:10 1234                       /usr/lib/libssl.so.3
7f000021f000-7f000027c000 r-xp 0001f000 fe:10 1234                       /usr/lib/libssl.so.3
7f000027c000-7f000029b000 r-xp 0007c000 fe:10 1234                       /usr/lib/libssl.so.3
7f0000300000-7f0000301000 --xp 00000000 00:2f 4294967297                 /lib/odd\\012name.so (deleted)
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn files_that_are_run_are_found_once() {
        let found = executable(MAPS);
        let names: Vec<_> = found
            .iter()
            .map(|file| file.path.to_str().unwrap())
            .collect();
        let expected = [
            "/opt/my node/bin/node",
            "/usr/lib/libssl.so.3",
            "/lib/odd\nname.so",
        ];
        assert_eq!(names, expected);
        assert_eq!(found[0].range, "400000-5a00000");
        assert_eq!(found[1].range, "7f000021f000-7f000027c000");
        assert_eq!(
            found[1].key,
            Key {
                major: 0xfe,
                minor: 0x10,
                inode: 1234
            }
        );
        assert_eq!(
            found[2].key,
            Key {
                major: 0,
                minor: 0x2f,
                inode: 1 << 32 | 1
            }
        );
        let deleted: Vec<_> = found.iter().map(|file| file.is_deleted).collect();
        assert_eq!(deleted, [false, false, true]);
    }

    #[test]
    fn what_the_kernel_does_not_write_is_nothing() {
        for broken in [
            "",
            "x",
            "a-b r-xp",
            "zz-1 r-xp 0 fe:01 7 /a",
            "1-2 r-xp 0 fe 7 /a",
            "1-2 r-xp 0 fe:01 7",
        ] {
            assert_eq!(executable(broken), [], "{broken}");
        }
    }

    #[test]
    fn own_program_is_among_its_mappings() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let program = std::env::current_exe().unwrap();
        assert!(executable(&maps).iter().any(|file| file.path == program));
    }
}
