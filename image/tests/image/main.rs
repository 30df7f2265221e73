//! What the image crate promises, seen from outside.

mod build;
mod content;
mod cpio;
mod diff;
mod disk;
mod elf;
mod exec;
mod extends;
mod fat;
mod formats;
mod iso;
mod kernel;
mod libvirt;
mod lock;
mod manifest;
mod modules;
mod output;
mod packaged;
mod program;
mod programs;
mod reference;
mod spec;
mod support;
mod uki;
