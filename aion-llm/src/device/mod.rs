//! Where the model computes: chosen by name, probed before use, never guessed.

#[cfg(feature = "cuda")]
mod cuda;

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::{Error, Result};

/// A device as the user names it: `auto`, `cpu`, `flex`, `wgpu`, `cuda` or `cuda:1`.
///
/// ```
/// use aion_llm::DeviceSpec;
/// assert_eq!("cuda:1".parse::<DeviceSpec>()?, DeviceSpec::Cuda(1));
/// assert!("tpu".parse::<DeviceSpec>().is_err());
/// # Ok::<(), aion_llm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceSpec {
    /// The first CUDA card if this build has `cuda` and its driver is there, else the processor. Graphics cards by
    /// wgpu are used only when asked for: a software adapter looks like a card and is slower than the processor.
    #[default]
    Auto,
    /// The processor, with kernels of our own.
    Cpu,
    /// The processor by Burn (feature `flex`): all weights as floats. A reference, several times slower than `Cpu`.
    Flex,
    /// The best graphics adapter (feature `wgpu`).
    Wgpu,
    /// The CUDA card of this number (feature `cuda`).
    Cuda(usize),
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Flex => f.write_str("flex"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "flex" => Ok(Self::Flex),
            None if text == "wgpu" => Ok(Self::Wgpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) if index.parse::<u16>().is_ok() => {
                Ok(Self::Cuda(usize::from(index.parse::<u16>().unwrap_or(0))))
            }
            _ => Err(missing(text, "known are auto, cpu, flex, wgpu, cuda and cuda:N")),
        }
    }
}

fn missing(device: impl fmt::Display, reason: impl Into<String>) -> Error {
    Error::Device {
        device: device.to_string(),
        reason: reason.into(),
    }
}

/// A device that answered, with the name it goes by.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) place: Place,
    pub(crate) name: String,
}

/// What computes.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// The processor, by [`crate::cpu`].
    Cpu,
    /// A device of Burn.
    #[cfg_attr(
        not(any(feature = "flex", feature = "wgpu", feature = "cuda")),
        expect(dead_code, reason = "no device of Burn is built")
    )]
    Burn(Device),
}

impl DeviceSpec {
    /// Finds the device and checks that it answers.
    pub(crate) fn open(self) -> Result<Chosen> {
        match self {
            Self::Auto => cuda_device(0).or_else(|_| Ok(cpu())),
            Self::Cpu => Ok(cpu()),
            Self::Flex => flex(),
            Self::Wgpu => wgpu(),
            Self::Cuda(index) => cuda_device(index),
        }
    }
}

fn cpu() -> Chosen {
    Chosen {
        place: Place::Cpu,
        name: "cpu".into(),
    }
}

#[cfg(feature = "flex")]
fn flex() -> Result<Chosen> {
    Ok(Chosen {
        place: Place::Burn(Device::flex()),
        name: "flex".into(),
    })
}

#[cfg(not(feature = "flex"))]
fn flex() -> Result<Chosen> {
    Err(missing("flex", "this build lacks the feature `flex`"))
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Result<Chosen> {
    let open = || Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    probe(open, "wgpu").map(|device| Chosen {
        place: Place::Burn(device),
        name: "wgpu".into(),
    })
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<Chosen> {
    Err(missing("wgpu", "this build lacks the feature `wgpu`"))
}

#[cfg(feature = "cuda")]
fn cuda_device(index: usize) -> Result<Chosen> {
    let name = format!("cuda:{index}");
    cuda::driver().map_err(|reason| missing(&name, reason))?;
    probe(|| Device::cuda(index), &name).map(|device| Chosen {
        place: Place::Burn(device),
        name,
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda_device(index: usize) -> Result<Chosen> {
    Err(missing(
        format!("cuda:{index}"),
        "this build lacks the feature `cuda`",
    ))
}

/// Runs one small sum on the device: the backends panic instead of returning an error when no card answers.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn probe(open: impl FnOnce() -> Device + std::panic::UnwindSafe, name: &str) -> Result<Device> {
    let sum = std::panic::catch_unwind(|| {
        let device = open();
        let ones = burn::tensor::Tensor::<1>::ones([4], &device);
        let sum = (ones.clone() + ones).try_into_data().ok()?;
        let sum = sum.try_to_vec::<f32>().ok()?;
        (sum == [2.0; 4]).then_some(device)
    });
    sum.ok()
        .flatten()
        .ok_or_else(|| missing(name, "no such card answers; use `cpu`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for spec in [
            DeviceSpec::Auto,
            DeviceSpec::Cpu,
            DeviceSpec::Flex,
            DeviceSpec::Wgpu,
            DeviceSpec::Cuda(3),
        ] {
            assert_eq!(spec.to_string().parse::<DeviceSpec>().unwrap(), spec);
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_was_not_built_says_so() {
        let error = DeviceSpec::Cuda(0).open().unwrap_err();
        assert!(error.to_string().contains("feature `cuda`"), "{error}");
    }
}
