//! A disk that can be full.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use crate::Fault;

/// A small disk in memory, unmounted when dropped.
pub(super) struct Disk(pub(super) PathBuf);

impl Disk {
    /// One with room for `size` (`32m`); none where this program may not mount.
    pub(super) fn mount(size: &str) -> Result<Option<Self>, Fault> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tollgate-disk-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&folder)
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            fs::remove_dir(&folder)?;
        }
        Ok(mounted.then_some(Self(folder)))
    }

    /// Takes all the room that is left.
    pub(super) fn fill(&self) -> Result<PathBuf, Fault> {
        let path = self.0.join("filler");
        let mut file = File::create(&path)?;
        let block = vec![0; 64 * 1024];
        while file.write_all(&block).is_ok() {}
        // The last bytes, one page at a time.
        while file.write_all(&block[..512]).is_ok() {}
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmount = |folder: &Path| {
            let status = Command::new("umount").arg(folder).status();
            status.is_ok_and(|status| status.success())
        };
        for _ in 0..50 {
            if unmount(&self.0) {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let _ = fs::remove_dir(&self.0);
    }
}
