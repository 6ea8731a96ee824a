//! Whether the CUDA driver is there.
//!
//! `unsafe` because loading a library runs its initialisers, which the compiler cannot check. Only the driver's own
//! library is opened, by the name under which the vendor installs it, and it is closed again at once. Without this
//! probe a machine without the driver ends in a panic on one of the backend's threads.
#![allow(unsafe_code)]

#[cfg(windows)]
const DRIVER: &str = "nvcuda.dll";
#[cfg(not(windows))]
const DRIVER: &str = "libcuda.so.1";

pub(super) fn driver() -> Result<(), String> {
    // SAFETY: the driver's library has no initialiser beyond its own set-up, and no symbol of it is used here.
    let library = unsafe { libloading::Library::new(DRIVER) };
    library
        .map(drop)
        .map_err(|error| format!("the driver library {DRIVER} is not there ({error})"))
}

#[cfg(test)]
mod tests {
    /// Either answer is right on some machine; what matters is that asking does not panic and an absence is named.
    #[test]
    fn asking_for_the_driver_never_panics() {
        if let Err(reason) = super::driver() {
            assert!(reason.contains(super::DRIVER));
        }
    }
}
