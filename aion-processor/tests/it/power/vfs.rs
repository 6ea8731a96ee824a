//! A storage layer below SQLite that notes what is written to which file, and when it is flushed.
//!
//! Every call goes on to the layer that SQLite has by default; only the calls that change a file leave a note.
//! What the notes say is what a disk knows: [`disk`](super::disk) makes of them what is left after a power cut.
#![allow(unsafe_code)] // SQLite's VFS is an interface in C: tables of functions over memory that SQLite owns

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use libsqlite3_sys as ffi;

use super::disk::{Change, Named};

/// What was done to the files of one database, in order.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<Change>>);

impl Notes {
    pub(crate) fn push(&self, change: Change) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    pub(crate) fn taken(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Registers a storage layer under `name` that takes notes; it stays until the process ends.
pub(crate) fn register(name: &str) -> Arc<Notes> {
    let notes = Arc::new(Notes::default());
    // SQLite may use the layer for as long as it likes: neither its name nor its notes are ever freed.
    let name = CString::new(name).unwrap().into_raw();
    let kept = Arc::into_raw(notes.clone()).cast_mut();
    // SAFETY: a null name asks for the default layer, which SQLite never frees. What is registered is a copy of
    // it that lives as long as the process, with a name of its own, room for our part of a file in front of its
    // part, and functions that honour their contracts. Functions that were not replaced do not look at their
    // first argument, or are not called for this layer.
    let done = unsafe {
        let below = ffi::sqlite3_vfs_find(std::ptr::null());
        assert!(!below.is_null(), "SQLite has a storage layer");
        let layer = Box::new(ffi::sqlite3_vfs {
            szOsFile: (*below).szOsFile + OURS as c_int,
            pNext: std::ptr::null_mut(),
            zName: name,
            pAppData: Box::into_raw(Box::new(Layer { below, notes: kept })).cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            ..*below
        });
        ffi::sqlite3_vfs_register(Box::into_raw(layer), 0)
    };
    assert_eq!(done, ffi::SQLITE_OK);
    notes
}

/// What a layer knows: the one below it, and where its notes go.
struct Layer {
    below: *mut ffi::sqlite3_vfs,
    notes: *const Notes,
}

/// An open file: SQLite's own part, ours, and, right behind it, the part of the layer below.
#[repr(C, align(8))]
struct Recorded {
    base: ffi::sqlite3_file,
    notes: *const Notes,
    named: Option<Named>,
    /// Whether its first flush is one of the folder, too: SQLite does that for a new journal or log.
    is_new: bool,
}

/// Bytes of our part.
const OURS: usize = size_of::<Recorded>();

/// The file of the layer below.
///
/// # Safety
/// `file` was opened by [`open`].
unsafe fn below(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: SQLite gave `szOsFile` bytes, which are ours and then those of the layer below.
    unsafe { file.cast::<u8>().add(OURS).cast() }
}

/// Takes a note, if the file is one of those that last.
///
/// # Safety
/// `file` was opened by [`open`].
unsafe fn note(file: *mut ffi::sqlite3_file, change: impl FnOnce(Named) -> Change) {
    // SAFETY: `open` has filled in our part, and the notes are never freed.
    let (named, notes) = unsafe {
        let ours = file.cast::<Recorded>();
        ((*ours).named, &*(*ours).notes)
    };
    if let Some(named) = named {
        notes.push(change(named));
    }
}

fn named(flags: c_int) -> Option<Named> {
    match flags {
        _ if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 => Some(Named::Main),
        _ if flags & ffi::SQLITE_OPEN_WAL != 0 => Some(Named::Wal),
        _ if flags & ffi::SQLITE_OPEN_MAIN_JOURNAL != 0 => Some(Named::Journal),
        _ => None,
    }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: `vfs` is what `register` made; `file` has room for our part and the part of the layer below.
    unsafe {
        let layer = (*vfs).pAppData.cast::<Layer>();
        let ours = file.cast::<Recorded>();
        (*ours).base.pMethods = std::ptr::null();
        (*ours).notes = (*layer).notes;
        (*ours).named = named(flags);
        (*ours).is_new = flags & ffi::SQLITE_OPEN_CREATE != 0
            && flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
        let real = below(file);
        (*real).pMethods = std::ptr::null();
        let Some(call) = (*(*layer).below).xOpen else {
            return ffi::SQLITE_CANTOPEN;
        };
        let done = call((*layer).below, name, real, flags, out);
        // Only a file with functions is closed by SQLite, also one that could not be opened.
        if !(*real).pMethods.is_null() {
            (*ours).base.pMethods = &METHODS;
        }
        done
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: `vfs` is what `register` made, `name` is a string of SQLite's.
    unsafe {
        let layer = (*vfs).pAppData.cast::<Layer>();
        let Some(call) = (*(*layer).below).xDelete else {
            return ffi::SQLITE_IOERR;
        };
        let done = call((*layer).below, name, sync);
        let text = CStr::from_ptr(name).to_bytes();
        let named = match text {
            _ if text.ends_with(b"-wal") => Some(Named::Wal),
            _ if text.ends_with(b"-journal") => Some(Named::Journal),
            _ => None,
        };
        if let (ffi::SQLITE_OK, Some(named)) = (done, named) {
            let notes = &*(*layer).notes;
            notes.push(Change::Delete(named));
            if sync != 0 {
                notes.push(Change::SyncFolder);
            }
        }
        done
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    amount: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives `amount` readable bytes at `from`, and a file that `open` opened.
    unsafe {
        let real = below(file);
        let Some(call) = (*(*real).pMethods).xWrite else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        let done = call(real, from, amount, at);
        if done == ffi::SQLITE_OK {
            let bytes = std::slice::from_raw_parts(from.cast::<u8>(), amount as usize).to_vec();
            note(file, |named| Change::Write(named, at as usize, bytes));
        }
        done
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: the file was opened by `open`.
    unsafe {
        let real = below(file);
        let Some(call) = (*(*real).pMethods).xTruncate else {
            return ffi::SQLITE_IOERR_TRUNCATE;
        };
        let done = call(real, size);
        if done == ffi::SQLITE_OK {
            note(file, |named| Change::Truncate(named, size as usize));
        }
        done
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file was opened by `open`.
    unsafe {
        let real = below(file);
        let Some(call) = (*(*real).pMethods).xSync else {
            return ffi::SQLITE_IOERR_FSYNC;
        };
        let done = call(real, flags);
        if done == ffi::SQLITE_OK {
            note(file, Change::Sync);
            let ours = file.cast::<Recorded>();
            if std::mem::take(&mut (*ours).is_new) {
                note(file, |_| Change::SyncFolder);
            }
        }
        done
    }
}

/// Functions that only go on to the layer below.
macro_rules! pass {
    ($($name:ident($($arg:ident: $kind:ty),*) = $method:ident, $missing:expr;)*) => {$(
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $arg: $kind)*) -> c_int {
            // SAFETY: the file was opened by `open`; the arguments are SQLite's and go on as they are.
            unsafe {
                let real = below(file);
                match (*(*real).pMethods).$method {
                    Some(call) => call(real $(, $arg)*),
                    None => $missing,
                }
            }
        }
    )*};
}

pass! {
    close() = xClose, ffi::SQLITE_OK;
    read(to: *mut c_void, amount: c_int, at: ffi::sqlite3_int64) = xRead, ffi::SQLITE_IOERR_READ;
    file_size(size: *mut ffi::sqlite3_int64) = xFileSize, ffi::SQLITE_IOERR_FSTAT;
    lock(kind: c_int) = xLock, ffi::SQLITE_IOERR_LOCK;
    unlock(kind: c_int) = xUnlock, ffi::SQLITE_IOERR_UNLOCK;
    is_reserved(out: *mut c_int) = xCheckReservedLock, ffi::SQLITE_IOERR_CHECKRESERVEDLOCK;
    control(what: c_int, with: *mut c_void) = xFileControl, ffi::SQLITE_NOTFOUND;
    sector_size() = xSectorSize, 4_096;
    device() = xDeviceCharacteristics, 0;
    shm_map(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) = xShmMap, ffi::SQLITE_IOERR_SHMMAP;
    shm_lock(offset: c_int, n: c_int, flags: c_int) = xShmLock, ffi::SQLITE_IOERR_SHMLOCK;
    shm_unmap(delete: c_int) = xShmUnmap, ffi::SQLITE_OK;
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: the file was opened by `open`.
    unsafe {
        let real = below(file);
        if let Some(call) = (*(*real).pMethods).xShmBarrier {
            call(real);
        }
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // The second version has shared memory, which WAL needs, and nothing mapped, which would go past us.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
