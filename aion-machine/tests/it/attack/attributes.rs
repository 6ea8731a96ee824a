//! Attacks on what belongs to a file outside and is not its content: times and attributes, by its name only.
//!
//! `unsafe`: these are raw system calls, none of which gets a pointer that does not outlive it.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;

use super::acts::{Knowledge, c, call, check, secret};

/// The time of the last change, without opening the file.
pub(super) fn touch_outside_by_name(know: &Knowledge) -> io::Result<()> {
    let path = c(&secret(know));
    let now = libc::UTIME_NOW;
    let times = [0, 1].map(|_| libc::timespec {
        tv_sec: 0,
        tv_nsec: now,
    });
    // SAFETY: both pointers are to values that outlive the call.
    check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) }.into()).map(drop)
}

/// The arguments of `setxattrat`.
#[repr(C)]
struct Attribute {
    value: u64,
    size: u32,
    flags: u32,
}

/// An attribute, by the newest call that the kernel has.
pub(super) fn attribute_outside(know: &Knowledge) -> io::Result<()> {
    const SETXATTRAT: libc::c_long = 463;
    let (path, name, value) = (c(&secret(know)), c"user.aion", b"x");
    let arguments = Attribute {
        value: value.as_ptr() as u64,
        size: 1,
        flags: 0,
    };
    let (path, name) = (path.as_ptr() as libc::c_long, name.as_ptr() as libc::c_long);
    let at = &raw const arguments as libc::c_long;
    let size = size_of::<Attribute>() as libc::c_long;
    let set = call(SETXATTRAT, [libc::AT_FDCWD.into(), path, 0, name, at, size]);
    match set {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => call(
            libc::SYS_setxattr,
            [path, name, value.as_ptr() as libc::c_long, 1, 0, 0],
        )
        .map(drop),
        other => other.map(drop),
    }
}

/// One that is not there: the answer is about the file.
pub(super) fn remove_attribute_outside(know: &Knowledge) -> io::Result<()> {
    let path = c(&secret(know));
    let (path, name) = (
        path.as_ptr() as libc::c_long,
        c"user.none".as_ptr() as libc::c_long,
    );
    match call(libc::SYS_removexattr, [path, name, 0, 0, 0, 0]) {
        Err(e) if e.raw_os_error() == Some(libc::ENODATA) => Ok(()),
        other => other.map(drop),
    }
}
