"""The classifier reads [CLS] alone, so the last layer needs one query of each text, and all that follows one row of it.

transformers computes every row; this is the change that gives a peer what Ember does, with the same result.
"""

import torch


class ForClsAlone(torch.nn.Module):
    """A BertLayer of eager attention: x is (texts, tokens, hidden), the result (texts, 1, hidden)."""

    def __init__(self, layer, heads):
        super().__init__()
        self.layer, self.heads = layer, heads

    def forward(self, x, attention_mask=None, *_, **__):
        attention, cls = self.layer.attention, x[:, :1]
        query, key, value = (self.split(product(rows)) for product, rows in (
            (attention.self.query, cls), (attention.self.key, x), (attention.self.value, x)))
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        if attention_mask is not None:
            scores = scores + attention_mask[:, :, :1]
        context = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x = attention.output(context, cls)
        return self.layer.output(self.layer.intermediate(x), x)

    def split(self, x):
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def for_cls_alone(model):
    """`model`, a BertForSequenceClassification with eager attention, is changed."""
    layers = model.bert.encoder.layer
    layers[-1] = ForClsAlone(layers[-1], model.config.num_attention_heads)
