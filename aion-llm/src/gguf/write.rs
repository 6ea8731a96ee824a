//! Writing GGUF files of version 3, with the integer widths that other readers insist on.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;

use super::block::TensorType;
use crate::error::{Error, Result};

const ALIGNMENT: usize = 32;

/// The header of a file to be written: encoded key-value pairs and the table of tensors.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pairs: Vec<Bytes>,
    tensors: Vec<Planned>,
}

/// A tensor whose bytes follow later.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) name: String,
    /// Row-major, outermost first.
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: TensorType,
}

impl Planned {
    /// Bytes of the tensor in the file.
    pub(crate) fn size(&self) -> usize {
        self.shape.iter().product::<usize>() / self.kind.block_len() * self.kind.block_bytes()
    }
}

impl Draft {
    /// A pair that is already encoded: key, type and value.
    pub(crate) fn pair(&mut self, encoded: Bytes) {
        self.pairs.push(encoded);
    }

    pub(crate) fn u32(&mut self, key: &str, value: u32) {
        self.put(key, 4, &value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, key: &str, value: f32) {
        self.put(key, 6, &value.to_le_bytes());
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.put(key, 7, &[u8::from(value)]);
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        put_text(&mut bytes, value);
        self.put(key, 8, &bytes);
    }

    pub(crate) fn texts<'a>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'a str>) {
        let mut bytes = array_head(8, values.len());
        values.for_each(|text| put_text(&mut bytes, text));
        self.put(key, 9, &bytes);
    }

    pub(crate) fn i32s(&mut self, key: &str, values: &[i32]) {
        let mut bytes = array_head(5, values.len());
        values.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
        self.put(key, 9, &bytes);
    }

    fn put(&mut self, key: &str, kind: u32, value: &[u8]) {
        let mut bytes = Vec::with_capacity(12 + key.len() + value.len());
        put_text(&mut bytes, key);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        self.pairs.push(bytes.into());
    }

    pub(crate) fn tensor(&mut self, planned: Planned) {
        self.tensors.push(planned);
    }

    pub(crate) fn tensors(&self) -> &[Planned] {
        &self.tensors
    }

    /// Writes the header, then each tensor as `bytes_of` its number gives it.
    pub(crate) fn write(
        &self,
        out: &mut impl Write,
        path: &Path,
        mut bytes_of: impl FnMut(usize) -> Result<Bytes>,
    ) -> Result<()> {
        let header = self.header();
        let mut at = header.len();
        out.write_all(&header).map_err(Error::io(path))?;
        for (i, planned) in self.tensors.iter().enumerate() {
            let padding = at.next_multiple_of(ALIGNMENT) - at;
            out.write_all(&[0; ALIGNMENT][..padding])
                .map_err(Error::io(path))?;
            let bytes = bytes_of(i)?;
            if bytes.len() != planned.size() {
                return Err(Error::Config(format!(
                    "tensor `{}` came with {} bytes instead of {}",
                    planned.name,
                    bytes.len(),
                    planned.size()
                )));
            }
            out.write_all(&bytes).map_err(Error::io(path))?;
            at += padding + bytes.len();
        }
        Ok(())
    }

    fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        self.pairs.iter().for_each(|pair| out.extend_from_slice(pair));
        let mut offset = 0u64;
        for planned in &self.tensors {
            put_text(&mut out, &planned.name);
            out.extend((planned.shape.len() as u32).to_le_bytes());
            planned
                .shape
                .iter()
                .rev()
                .for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
            out.extend(planned.kind.code().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (planned.size() as u64).next_multiple_of(ALIGNMENT as u64);
        }
        out
    }
}

fn array_head(kind: u32, len: usize) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((len as u64).to_le_bytes());
    bytes
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Array, Gguf, Value};

    #[test]
    fn what_is_written_is_read() {
        let mut draft = Draft::default();
        draft.text("general.architecture", "llama");
        draft.u32("n", 7);
        draft.f32("x", 0.5);
        draft.bool("yes", true);
        draft.texts("list", ["a", "bc"].into_iter());
        draft.i32s("types", &[1, -3]);
        for (name, kind) in [("a", TensorType::F32), ("b", TensorType::Q8_0)] {
            draft.tensor(Planned {
                name: name.into(),
                shape: vec![3, 32],
                kind,
            });
        }
        let mut file = Vec::new();
        let bytes_of = |i: usize| Ok(vec![i as u8 + 1; draft.tensors()[i].size()].into());
        draft.write(&mut file, Path::new("memory"), bytes_of).unwrap();
        let gguf = Gguf::from_bytes(file).unwrap();
        assert_eq!(gguf.get_u64("n"), Some(7));
        assert_eq!(gguf.get("x"), Some(&Value::Float(0.5)));
        assert_eq!(
            gguf.get("types"),
            Some(&Value::Array(Array::Integers(vec![1, -3])))
        );
        assert_eq!(gguf.get("list").unwrap().as_texts().unwrap(), ["a", "bc"]);
        assert_eq!(gguf.tensors()["b"].shape, [3, 32]);
        assert_eq!(gguf.tensor_bytes("b").unwrap(), [2u8; 102]);
        let short = draft.write(&mut Vec::new(), Path::new("memory"), |_| Ok(Bytes::new()));
        assert!(matches!(short, Err(Error::Config(_))));
    }
}
