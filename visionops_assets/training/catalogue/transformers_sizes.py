"""The sizes in which RT-DETRv2 and D-FINE are published, as fields of transformers' configurations: of the backbone,
and of the rest. `tiny` is ours: small enough to learn on a processor, with no published weights.
"""

from typing import Any

Sizes = dict[str, tuple[dict[str, Any], dict[str, Any]]]

_STAGES = ["stage2", "stage3", "stage4"]
_BASIC = {"hidden_sizes": [64, 128, 256, 512], "layer_type": "basic", "out_features": _STAGES}
_OF_BASIC = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
_TINY_HEAD = {
    "encoder_hidden_dim": 64,
    "encoder_ffn_dim": 128,
    "encoder_attention_heads": 4,
    "d_model": 64,
    "decoder_in_channels": [64, 64, 64],
    "decoder_ffn_dim": 128,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "hidden_expansion": 0.5,
}
_TINY_STAGES = {"embedding_size": 32, "hidden_sizes": [32, 48, 64, 96], "depths": [1, 1, 1, 1]}

RTDETRV2: Sizes = {
    "rtdetrv2_tiny": (
        {**_TINY_STAGES, "layer_type": "basic", "out_features": _STAGES},
        {**_TINY_HEAD, "encoder_in_channels": [48, 64, 96]},
    ),
    "rtdetrv2_r18": ({**_BASIC, "depths": [2, 2, 2, 2]}, {**_OF_BASIC, "decoder_layers": 3}),
    "rtdetrv2_r34": ({**_BASIC, "depths": [3, 4, 6, 3]}, {**_OF_BASIC, "decoder_layers": 4}),
    "rtdetrv2_r50_m": ({"out_features": _STAGES}, {"hidden_expansion": 0.5}),
    "rtdetrv2_r50": ({"out_features": _STAGES}, {}),
    "rtdetrv2_r101": (
        {"depths": [3, 4, 23, 3], "out_features": _STAGES},
        {"encoder_ffn_dim": 2048, "encoder_hidden_dim": 384, "decoder_in_channels": [384, 384, 384]},
    ),
}


def _hgnet(stem: list[int], widths: tuple[list[int], list[int], list[int]], **fields: Any) -> dict[str, Any]:
    """A backbone of HGNetV2: channels of its stem, and by stage what comes in, is in the middle, goes out."""
    into, middle, out = widths
    return {
        "stem_channels": stem,
        "stage_in_channels": into,
        "stage_mid_channels": middle,
        "stage_out_channels": out,
        "hidden_sizes": out,
        "stage_downsample": [False, True, True, True],
        "stage_light_block": [False, False, True, True],
        "stage_kernel_size": [3, 3, 5, 5],
        "out_features": _STAGES,
        **fields,
    }


_NANO = ([16, 64, 256, 512], [16, 32, 64, 128], [64, 256, 512, 1024])
_NANO_BLOCKS = {"stage_num_blocks": [1, 1, 2, 1], "stage_numb_of_layers": [3, 3, 3, 3], "embedding_size": 32}
_LEARNS_AFFINE = {"use_learnable_affine_block": True}

DFINE: Sizes = {
    "dfine_tiny": (
        _hgnet(
            [3, 16, 16],
            ([16, 32, 48, 64], [16, 16, 24, 32], [32, 48, 64, 96]),
            stage_num_blocks=[1, 1, 1, 1],
            stage_numb_of_layers=[2, 2, 2, 2],
            embedding_size=16,
            depths=[1, 1, 1, 1],
        ),
        {**_TINY_HEAD, "encoder_in_channels": [48, 64, 96]},
    ),
    "dfine_n": (
        _hgnet([3, 16, 16], _NANO, **_NANO_BLOCKS, **_LEARNS_AFFINE) | {"out_features": ["stage3", "stage4"]},
        {
            "num_feature_levels": 2,
            "encoder_ffn_dim": 512,
            "encode_proj_layers": [1],
            "d_model": 128,
            "encoder_hidden_dim": 128,
            "decoder_ffn_dim": 512,
            "encoder_in_channels": [512, 1024],
            "decoder_n_points": [6, 6],
            "decoder_in_channels": [128, 128],
            "feat_strides": [16, 32],
            "depth_mult": 0.5,
            "decoder_layers": 3,
            "hidden_expansion": 0.34,
        },
    ),
    "dfine_s": (
        _hgnet([3, 16, 16], _NANO, **_NANO_BLOCKS, **_LEARNS_AFFINE),
        {
            "encoder_in_channels": [256, 512, 1024],
            "decoder_n_points": [3, 6, 3],
            "decoder_layers": 3,
            "hidden_expansion": 0.5,
            "depth_mult": 0.34,
        },
    ),
    "dfine_m": (
        _hgnet(
            [3, 24, 32],
            ([32, 96, 384, 768], [32, 64, 128, 256], [96, 384, 768, 1536]),
            stage_num_blocks=[1, 1, 3, 1],
            stage_numb_of_layers=[4, 4, 4, 4],
            embedding_size=32,
            **_LEARNS_AFFINE,
        ),
        {
            "encoder_in_channels": [384, 768, 1536],
            "decoder_n_points": [3, 6, 3],
            "decoder_layers": 4,
            "hidden_expansion": 1.0,
            "depth_mult": 0.67,
        },
    ),
    "dfine_l": (
        _hgnet(
            [3, 32, 48],
            ([48, 128, 512, 1024], [48, 96, 192, 384], [128, 512, 1024, 2048]),
            stage_num_blocks=[1, 1, 3, 1],
            stage_numb_of_layers=[6, 6, 6, 6],
            embedding_size=32,
        ),
        {
            "encoder_in_channels": [512, 1024, 2048],
            "encoder_ffn_dim": 1024,
            "decoder_n_points": [3, 6, 3],
            "decoder_layers": 6,
            "hidden_expansion": 1.0,
        },
    ),
    "dfine_x": (
        _hgnet(
            [3, 32, 64],
            ([64, 128, 512, 1024], [64, 128, 256, 512], [128, 512, 1024, 2048]),
            stage_num_blocks=[1, 2, 5, 2],
            stage_numb_of_layers=[6, 6, 6, 6],
            embedding_size=32,
        ),
        {
            "encoder_in_channels": [512, 1024, 2048],
            "encoder_hidden_dim": 384,
            "encoder_ffn_dim": 2048,
            "decoder_n_points": [3, 6, 3],
            "decoder_in_channels": [384, 384, 384],
            "decoder_layers": 6,
            "hidden_expansion": 1.0,
        },
    ),
}
