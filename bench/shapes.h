// The problems that are measured: models by their shape, and batches of texts whose lengths are those of GoEmotions.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "bench/work.h"
#include "data/dataset.h"
#include "model/config.h"

namespace ember {

// "tinybert" (Jiao et al. 2020: 4 layers, hidden 312), "minilm" (all-MiniLM-L6-v2: 6, 384) or "bert-base" (Devlin et
// al. 2019: 12, 768), each with a classifier of 28 labels. Error for another name.
BertConfig model_shape(std::string_view name);

// Length in tokens of text number i, from 0. The lengths are the quantiles (k + 1/2) / 64 of GoEmotions' training split
// (43,410 texts; bert-base-uncased's vocabulary, [CLS] and [SEP] counted): their mean is 19.1, that of the split 19.2.
// Text i takes the quantile at the fractional part of 1/2 + i / golden ratio, so that the mean of the first n texts is
// near the whole's for every n.
std::int64_t text_length(std::int64_t i);

// The lengths of the first `texts` texts; and of as many as it takes to hold exactly `tokens` tokens (3 or more), the
// last one cut or drawn longer.
std::vector<std::int64_t> lengths_of_texts(std::int64_t texts);
std::vector<std::int64_t> lengths_of_tokens(std::int64_t tokens);

// Texts of these lengths as token ids below `vocabulary` (1024 or more) between [CLS] and [SEP], with one label each.
// Ids repeat about as words do in GoEmotions: 308 tokens have about 170 different ones, 2,042 about 860 (in GoEmotions
// 172 and 704). A function of the arguments alone.
Dataset synthetic_texts(const std::vector<std::int64_t>& lengths, std::int64_t vocabulary, std::int64_t label_count);

// The numbers of the batch of `rows` texts from `first` on.
BatchSize size_of_batch(const Dataset& texts, std::int64_t first, std::int64_t rows);

}  // namespace ember
