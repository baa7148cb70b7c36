//! An ext4 file system of its own, in a file, that can be frozen and broken.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

// Fields are dropped in this order, after the file system is unmounted.
pub(crate) struct Disk {
    pub(crate) at: PathBuf,
    is_frozen: bool,
}

impl Disk {
    pub(crate) fn mount(folder: &Path) -> Disk {
        let (image, at) = (folder.join("image"), folder.join("disk"));
        fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        fs::create_dir(&at).unwrap();
        run(Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .args([&image, &at]));
        Disk {
            at,
            is_frozen: false,
        }
    }

    /// Whoever writes waits until [`Disk::thaw`].
    pub(crate) fn freeze(&mut self) {
        run(Command::new("fsfreeze").arg("-f").arg(&self.at));
        self.is_frozen = true;
    }

    pub(crate) fn thaw(&mut self) {
        run(Command::new("fsfreeze").arg("-u").arg(&self.at));
        self.is_frozen = false;
    }

    /// Has the kernel find an error on it, from when on it is read-only.
    pub(crate) fn fail(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = format!(" {} ", self.at.display());
        let line = mounts.lines().find(|line| line.contains(&place)).unwrap();
        let device = line.rsplit(" /dev/").next().unwrap();
        let device = device.split(' ').next().unwrap();
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        fs::write(trigger, "closewatch test").unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_frozen {
            self.thaw();
        }
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
