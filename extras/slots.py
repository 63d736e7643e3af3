"""Slots: where fd_mini.decode() keeps the rows that it is writing.

A slot is a row of the cache, and has its own length. Keys and values lie in buffers that are made
once. A row fills its slot from column 0 on; what lies behind its newest token is of the row that
was there before, and masked. Layers that keep one state a row, whatever its length (the linear
ones of Qwen3.5), have as many states as there are slots.
"""

from types import SimpleNamespace

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer


class Keys(DynamicLayer):
    """One layer's keys and values: two buffers [slots, heads, columns, d].

    place: where the next tokens stand, the same for all layers.
    """

    def __init__(self, place):
        super().__init__()
        self.place = place
        self.buffers = []

    def update(self, keys, values, *_, **__):
        """Writes those of the next tokens, [B, heads, T, d] each. -> what they attend to."""
        place = self.place
        if not self.buffers:
            # Zeros: where a buffer held a NaN, a masked key would still make NaN.
            self.buffers = [
                new.new_zeros(place.size, new.shape[1], place.columns, new.shape[3])
                for new in (keys, values)
            ]
        for buffer, new in zip(self.buffers, (keys, values)):
            buffer[place.rows, :, place.positions] = new.transpose(1, 2)[place.of]

        if not place.width:  # prompts: nothing was before them
            return keys, values
        return [buffer[: len(keys), :, : place.width] for buffer in self.buffers]


class Slots:
    """`size` slots of so many columns for `body`, a model without its head.

    Nothing here may hold a reference to itself: the cache must be free when decode() returns, not
    when Python looks for cycles.
    """

    def __init__(self, body, size, columns):
        self.body = body
        weight = next(body.parameters())
        self.zeros = weight.new_zeros(columns)
        self.numbers = torch.arange(max(size, columns), device=weight.device)
        self.newest = self.numbers.new_zeros(size, 2)  # tokens, and their positions

        self.place = SimpleNamespace(size=size, columns=columns)
        self.keys = {}  # number of a layer -> its keys and values
        windows = set()
        layers = DynamicCache(config=body.config).layers
        for number, layer in enumerate(layers):
            windows.add(getattr(layer, "sliding_window", columns))
            if type(layer) is not LinearAttentionLayer:
                self.keys[number] = Keys(self.place)
        self.has_states = len(self.keys) < len(layers)
        self.window = min(windows)
        self.mixed = len(windows) > 1  # some layers see a window, others all columns
        self.cache = None

    def read(self, slots, prompts):
        """Reads prompts into these slots. -> the last hidden state of each, [B, D]

        What stands there several times, as in a group of attempts, is read once.
        """
        different = list(dict.fromkeys(map(tuple, prompts)))
        if self.has_states and len(different) > 1:
            # Padding would get into the states.
            each = [self.read([s], [p]) for s, p in zip(slots, prompts)]
            return torch.cat(each)

        new_tensor = self.numbers.new_tensor
        lengths = list(map(len, different))
        padded = [[*p, *[0] * (max(lengths) - len(p))] for p in different]
        ids = new_tensor(padded)  # [those that are different, T], and one copy to the device
        self.place.of = new_tensor([different.index(tuple(p)) for p in prompts])  # [B]
        self.place.rows = new_tensor(slots)[:, None]  # [B, 1]
        self.place.positions = self.numbers[: ids.shape[1]]  # [T]
        self.place.width = 0

        # Its keys are those of all slots, its states are new.
        cache = DynamicCache(config=self.body.config)
        for number, keys in self.keys.items():
            cache.layers[number] = keys
        # No mask: padding comes after a row's own tokens, which do not look ahead.
        out = self.body(input_ids=ids, past_key_values=cache, use_cache=True)

        if self.cache:
            for old, new in zip(states(self.cache), states(cache)):
                old[slots] = new
        else:  # the first prompt's states in every slot
            cache.reorder_cache(torch.zeros_like(self.numbers[: self.place.size]))
            self.cache = cache
        last = new_tensor(lengths) - 1
        return out.last_hidden_state[self.numbers[: len(last)], last][self.place.of]

    def step(self, texts):
        """One more token for each of the first slots. -> [B, D]

        texts: all that is in these slots and, at the end of each, the token that is not yet.
        """
        newest = [(text[-1], len(text) - 1) for text in texts]
        self.newest[: len(texts)] = torch.tensor(newest)
        width = max(map(len, texts))
        return self.run(len(texts), width)[: len(texts)]

    def run(self, rows, width):
        """The step of so many slots, which attend to so many columns. -> [rows, D]"""
        tokens, positions = self.newest[:rows].split(1, dim=1)  # [rows, 1] each
        self.place.rows = self.numbers[:rows, None]
        self.place.of = slice(None)
        self.place.positions = positions
        self.place.width = width
        out = self.body(
            input_ids=tokens,
            attention_mask=self.mask(positions, width),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        return out.last_hidden_state[:, 0]

    def mask(self, positions, width):
        """Added to scores: 0 where a row looks, else -inf. [rows, 1, 1, width]"""
        columns = self.numbers[:width]
        ahead = (columns > positions)[:, None, None]
        behind = (columns <= positions - self.window)[:, None, None]
        full = self.zeros[:width].masked_fill(ahead, -torch.inf)
        near = full.masked_fill(behind, -torch.inf)
        if self.mixed:
            return {"full_attention": full, "sliding_attention": near}
        return near

    def move(self, last, slot):
        """The row of the last slot moves to this one, and the last slot is gone."""
        if slot < last:
            for layer in self.keys.values():
                for buffer in layer.buffers:
                    buffer[slot] = buffer[last]
        if self.has_states:
            order = self.numbers[:last].clone()
            order[slot : slot + 1] = last
            self.cache.reorder_cache(order)  # states alone


def states(cache):
    """The tensors of layers that keep a state a row: [rows, ...] each."""
    found = []
    for layer in cache.layers:
        if type(layer) is LinearAttentionLayer:
            found += [*layer.conv_states.values(), *layer.recurrent_states.values()]
    return [state for state in found if state is not None]
