//! What segments, message queues and semaphores of System V take: memory that belongs to no process, and that stays
//! when the one that made it lets go of it.

use std::fs;
use std::path::Path;

/// What the kernel keeps for a semaphore, and for a message beside its text, in bytes.
const OF_EACH: u64 = 64;

/// The memory of all that a `/proc` lists, which is what is in the namespace of who reads.
pub(super) fn bytes(proc: &Path) -> u64 {
    let list = |name: &str| fs::read_to_string(proc.join("sysvipc").join(name)).unwrap_or_default();
    segments(&list("shm"))
        .saturating_add(semaphores(&list("sem")))
        .saturating_add(messages(&list("msg")))
}

/// In memory or swapped out; what was asked for and never touched takes nothing.
fn segments(list: &str) -> u64 {
    sum(list, &[("rss", 1), ("swap", 1)])
}

fn semaphores(list: &str) -> u64 {
    sum(list, &[("nsems", OF_EACH)])
}

fn messages(list: &str) -> u64 {
    sum(list, &[("cbytes", 1), ("qnum", OF_EACH)])
}

/// Adds up columns, each with the weight of its numbers. The first line has their names.
fn sum(list: &str, columns: &[(&str, u64)]) -> u64 {
    let mut lines = list.lines();
    let names: Vec<_> = lines.next().unwrap_or("").split_ascii_whitespace().collect();
    let places = columns.iter().filter_map(|(name, weight)| {
        let at = names.iter().position(|known| known == name)?;
        Some((at, *weight))
    });
    let places: Vec<_> = places.collect();
    let of_line = |line: &str| -> u64 {
        let numbers: Vec<_> = line.split_ascii_whitespace().collect();
        let parts = places.iter().filter_map(|(at, weight)| {
            let number: u64 = numbers.get(*at)?.parse().ok()?;
            Some(number.saturating_mul(*weight))
        });
        parts.fold(0, u64::saturating_add)
    };
    lines.map(of_line).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lists_is_added_up() {
        let shm = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      \
                   atime      dtime      ctime                   rss                  swap\n\
                   0     0   600   4096  1  1  0 1 1 1 1 0 0 0   8192   4096\n\
                   0     1   600   4096  1  1  0 1 1 1 1 0 0 0   4096      0\n";
        assert_eq!(segments(shm), 16_384);
        let sem = "key semid perms nsems uid gid cuid cgid otime ctime\n 0 0 600 32000 1 1 1 1 0 0\n";
        assert_eq!(semaphores(sem), 32_000 * OF_EACH);
        let msg = "key msqid perms cbytes qnum lspid lrpid uid gid cuid cgid stime rtime ctime\n\
                   0 0 600 100 3 0 0 1 1 1 1 0 0 0\n";
        assert_eq!(messages(msg), 100 + 3 * OF_EACH);
        assert_eq!(
            (segments(""), semaphores("nonsense\n1 2"), messages("cbytes\nx\n")),
            (0, 0, 0)
        );
    }

    /// The columns are those of this kernel.
    #[test]
    fn this_kernel_has_these_columns() {
        for (name, columns) in [
            ("shm", ["rss", "swap"]),
            ("sem", ["nsems", "nsems"]),
            ("msg", ["cbytes", "qnum"]),
        ] {
            let list = fs::read_to_string(Path::new("/proc/sysvipc").join(name)).unwrap();
            let names: Vec<_> = list.lines().next().unwrap().split_ascii_whitespace().collect();
            assert!(columns.iter().all(|column| names.contains(column)), "{names:?}");
        }
    }
}
