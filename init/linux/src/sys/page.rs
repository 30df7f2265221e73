//! Pages of memory that others read or write at the same time: a device's, or a file's that this
//! program shares with others.

use std::ffi::c_void;
use std::fs::File;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The length of what is mapped: a page of x86-64.
const PAGE_BYTES: usize = 4096;

/// One page of a device's memory, which the device may change at any time.
#[derive(Debug)]
pub struct MappedPage(Mapping);

/// The first page of a file that this program writes and others read.
#[derive(Debug)]
pub struct SharedPage(Mapping);

#[derive(Debug)]
struct Mapping {
    address: NonNull<c_void>,
}

impl MappedPage {
    /// Maps the first page of `device`, read-only. Errors: as `mmap`.
    pub fn of(device: &File) -> Result<Self, Errno> {
        Mapping::of(device, ProtFlags::READ).map(Self)
    }

    /// The little-endian word at a byte offset, which is a multiple of 8 within the page; one
    /// access of the memory.
    #[must_use]
    pub fn word(&self, offset: usize) -> u64 {
        let place = self.0.place(offset);
        // SAFETY: `place` is aligned and within the page, which is mapped as long as `self` lives;
        // any bits are a valid u64, and the access is volatile because others write there.
        u64::from_le(unsafe { place.read_volatile() })
    }
}

impl SharedPage {
    /// Maps the first page of `file`, which is open for reading and writing, and which nobody may make
    /// shorter than what is written to it. Errors: as `mmap`.
    pub fn of(file: &File) -> Result<Self, Errno> {
        Mapping::of(file, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    /// The word at a byte offset, which is a multiple of 8 within the page.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        let place = self.0.place(offset);
        // SAFETY: `place` is aligned and within the page, which stays mapped as long as the reference,
        // which borrows `self`, lives; this program reaches it in no other way than by atomics.
        unsafe { AtomicU64::from_ptr(place) }
    }
}

impl Mapping {
    fn of(file: &File, protection: ProtFlags) -> Result<Self, Errno> {
        let start = std::ptr::null_mut();
        // SAFETY: the kernel chooses an address where nothing is mapped, so no memory of ours is
        // touched; the mapping stays until it is dropped.
        let address = unsafe { mmap(start, PAGE_BYTES, protection, MapFlags::SHARED, file, 0)? };
        NonNull::new(address)
            .map(|address| Self { address })
            .ok_or(Errno::FAULT)
    }

    /// Where the word at this byte offset is.
    fn place(&self, offset: usize) -> *mut u64 {
        assert!(offset.is_multiple_of(8) && offset < PAGE_BYTES);
        // SAFETY: the offset is within the page.
        unsafe { self.address.cast::<u64>().add(offset / 8) }.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by `of` with this length, and no reference into it outlives
        // `self`. That unmapping it can't fail follows from the first.
        let _ = unsafe { munmap(self.address.as_ptr(), PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_is_stored_in_a_shared_page_is_read_through_another_mapping() {
        let path = std::env::temp_dir().join(format!("noonmark-page-{}", std::process::id()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.write_all(&[0; 16]).unwrap();
        let (ours, theirs) = (
            SharedPage::of(&file).unwrap(),
            MappedPage::of(&File::open(&path).unwrap()).unwrap(),
        );
        std::fs::remove_file(&path).unwrap();
        ours.word(8).store(0x0102_0304, Ordering::Release);
        assert_eq!((theirs.word(0), theirs.word(8)), (0, 0x0102_0304));
    }
}
