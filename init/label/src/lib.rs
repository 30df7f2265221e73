//! What a disk is and how it is labelled, as util-linux's libblkid tells it (libblkid/src/superblocks/).
//!
//! PID 1 finds data disks by this, and the seed's reader its seeds, so a disk has one label, whoever
//! looks. A disk's own numbers are followed here only as far as its label: no file is read and no name.
//! What is followed is bounded, so that no disk can keep or fill whoever looks at it.
//!
//! [`ext4`], [`fat`], [`iso9660`] and [`udf`] each tell whether a disk is one of theirs. The last three
//! also hand out what a reader of the files starts from. All stand on [`disk`].

#![forbid(unsafe_code)]

pub mod disk;
pub mod ext4;
pub mod fat;
pub mod iso9660;
pub mod udf;
