"""Boxes that say the same twice are suppressed inside the graph, by operations of tensors alone: what ships has no
further step, and every runtime computes it.

Greedy suppression keeps a box unless one that scores better, and is itself kept, overlaps it: the fixed point of "kept
where no kept better one overlaps". As many rounds reach it as the longest chain of boxes is long that each overlap the
next; rounds are counted, not looked for, so that the graph branches on no value.
"""

import torch
from torch import Tensor

_ROUNDS = 16


def suppressed(
    corners: Tensor, scores: Tensor, *, detections: int, overlap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The best `detections` boxes an image, of which those have a score of 0 that overlap a better one of their class.

    Takes `corners` float [N, M, 4] (left, top, right, bottom) and `scores` float [N, M, classes]; `overlap` is the
    intersection over union above which two are of one object. Returns boxes [N, K, 4] (left, top, width, height),
    scores [N, K] and labels int64 [N, K].
    """
    classes = scores.shape[2]
    best, places = torch.topk(scores.flatten(1), min(detections, scores.shape[1] * classes))
    labels, rows = places % classes, places // classes
    left, top, right, bottom = corners.gather(1, rows[..., None].expand(-1, -1, 4)).unbind(-1)
    wide = torch.minimum(right[:, :, None], right[:, None]) - torch.maximum(left[:, :, None], left[:, None])
    high = torch.minimum(bottom[:, :, None], bottom[:, None]) - torch.maximum(top[:, :, None], top[:, None])
    common = wide.clamp(min=0) * high.clamp(min=0)
    area = (right - left) * (bottom - top)
    alike = labels[:, :, None] == labels[:, None]
    over = (common > overlap * (area[:, :, None] + area[:, None] - common)) & alike
    # Above the diagonal: row by row the better one, in the column the one that it would suppress.
    suppresses = torch.triu(over.float(), diagonal=1)
    kept = torch.ones_like(best)
    for _ in range(_ROUNDS):
        kept = 1 - (suppresses * kept[:, :, None]).amax(dim=1)
    return torch.stack([left, top, right - left, bottom - top], dim=-1), best * kept, labels
