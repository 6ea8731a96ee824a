//! The model on every body that this processor has.

use super::kernel::{Body, Format, pack_tile, unpack_row};
use crate::gguf::{TensorType, dequantize};

/// What a tile holds of a row is what the file says, for random bytes of every stored type.
#[test]
fn tiles_hold_what_the_file_says() {
    let mut seed = 7u64;
    let mut noise = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    for (kind, format, columns) in [
        (TensorType::Q4_0, Format::Q4Zero, 96),
        (TensorType::Q4_1, Format::Q4Min, 64),
        (TensorType::Q8_0, Format::Q8, 96),
        (TensorType::Q6K, Format::Q6, 512),
        (TensorType::F16, Format::F16, 37),
        (TensorType::BF16, Format::BF16, 37),
        (TensorType::F32, Format::F32, 37),
    ] {
        let rows = 11;
        let bytes: Vec<u8> = (0..rows * format.row_bytes(columns)).map(|_| noise()).collect();
        let dense = dequantize(kind, &bytes).unwrap();
        let mut tile = vec![0; format.tile_bytes(columns)];
        pack_tile(format, &bytes, columns, &mut tile);
        for (r, row) in dense.chunks_exact(columns).enumerate() {
            let mut out = vec![0.0; columns];
            unpack_row(format, &tile, r, &mut out);
            let same = |(a, b): (&f32, &f32)| {
                a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * a.abs()
            };
            assert!(row.iter().zip(&out).all(same), "{kind:?}, row {r}");
        }
    }
}

/// What is set aside for a pass before loading is what the longest pass takes.
#[cfg(feature = "testkit")]
#[test]
fn the_room_of_a_pass_is_known_before() {
    use super::{CpuModel, CpuOptions};
    use crate::checkpoint::GgufCheckpoint;
    use crate::experts::{Experts, Gating};
    use crate::gguf::Gguf;
    use crate::model::Want;
    use crate::testkit::TinyModel;

    let dense = TinyModel::in_blocks(3);
    let mixed = TinyModel::with_config(4, {
        let mut config = dense.config().clone();
        config.experts = Some(Experts::new(6, 4).with_gating(Gating::Sigmoid));
        config
    });
    for tiny in [dense, mixed] {
        let gguf = Gguf::from_bytes(tiny.gguf().bytes()).unwrap();
        let model = CpuModel::load(&GgufCheckpoint::new(&gguf).unwrap(), CpuOptions::new(1)).unwrap();
        let (mut cache, tokens) = (model.new_cache(), vec![5; 256]);
        model.run(&mut [super::Sequence {
            tokens: &tokens,
            cache: &mut cache,
            want: Want::Nothing,
        }]);
        let (said, taken) = (
            CpuModel::scratch_bytes_of(tiny.config(), 10_000),
            model.scratch_bytes(),
        );
        assert!(
            taken > 0 && taken <= said && said < taken + taken / 4,
            "{taken} of {said}"
        );
    }
}

#[test]
fn the_best_body_is_here() {
    assert!(Body::best().is_here());
    assert!(Body::here().any(|body| body == Body::Portable));
}
