//! Attacks that hide what they take: in objects that no process holds, in names, in processes that let nobody look.
//!
//! `unsafe`: these are raw system calls, none of which gets a pointer that does not outlive it.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::acts::{Act, Knowledge, call};

pub(super) const ACTS: [(&str, Act); 5] = [
    ("memory_of_nobody", memory_of_nobody),
    ("semaphores", semaphores),
    ("fill_tmp_with_names", fill_tmp_with_names),
    ("write_seen", write_seen),
    ("write_unseen", write_unseen),
];

/// Shared memory that nobody holds any more, and semaphores, which nobody ever does.
fn memory_of_nobody(_: &Knowledge) -> io::Result<()> {
    const BYTES: usize = 40 << 20;
    for _ in 0..8 {
        let id = call(libc::SYS_shmget, [0, BYTES as libc::c_long, 0o1600, 0, 0, 0])?;
        let at = call(libc::SYS_shmat, [id, 0, 0, 0, 0, 0])?;
        // SAFETY: the segment that was just attached, all of it, by nobody else.
        unsafe { std::ptr::write_bytes(at as *mut u8, 1, BYTES) };
        call(libc::SYS_shmdt, [at, 0, 0, 0, 0, 0])?;
    }
    std::thread::sleep(std::time::Duration::from_secs(4));
    Ok(())
}

/// Semaphores: two million bytes for each set of them.
fn semaphores(_: &Knowledge) -> io::Result<()> {
    for _ in 0..160 {
        call(libc::SYS_semget, [0, 32_000, 0o1600, 0, 0, 0])?;
    }
    std::thread::sleep(std::time::Duration::from_secs(4));
    Ok(())
}

/// Names of files without a content, until there is an error.
fn fill_tmp_with_names(_: &Knowledge) -> io::Result<()> {
    for i in 0..100_000 {
        if let Err(e) = File::create(format!("/tmp/{i}")) {
            io::stdout().write_all(format!("MADE {i}\n").as_bytes())?;
            return Err(e);
        }
    }
    Ok(())
}

/// Has a program of its own write 100 MiB, which may be executed and not read: nobody of its user can look at it.
fn write_unseen(_: &Knowledge) -> io::Result<()> {
    write_by("unseen", 0o300)
}

/// The control: one that may be read.
fn write_seen(_: &Knowledge) -> io::Result<()> {
    write_by("seen", 0o700)
}

fn write_by(name: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(name)?;
    io::copy(&mut File::open("/bin/dd")?, &mut file)?;
    drop(file);
    let mut program = std::process::Command::new(format!("./{name}"));
    let mut child = program
        .arg("of=written")
        .stdin(std::process::Stdio::piped())
        .spawn()?;
    let chunk = vec![1u8; 1 << 20];
    let mut input = child.stdin.take().ok_or(io::ErrorKind::NotFound)?;
    (0..100).try_for_each(|_| input.write_all(&chunk))?;
    std::thread::sleep(std::time::Duration::from_secs(6));
    drop(input);
    child.wait().map(drop)
}
