// A checkpoint written anew as a Hugging Face directory, without a model in between.
#pragma once

#include <cstdint>
#include <filesystem>

#include "model/checkpoint_match.h"

namespace ember {

struct ConversionOptions {
  DType dtype = DType::f32;  // of the weights, or f16; each is rounded once
  std::uint64_t seed = 42;   // for what is drawn
};

// Writes what save_hugging_face writes into a new folder, which is to take its place as a whole
// (write_directory_atomically), tensor by tensor from where they are: beside the mapped files it takes the memory of
// the largest drawn tensor and a few blocks. Error naming the tensor for a number that is not finite or that f16
// cannot hold, and as save_surroundings and Tokenizer have them.
void write_converted(const std::filesystem::path& directory, const CheckpointMatch& match,
                     const ConversionOptions& options);

}  // namespace ember
