// Whether this is TSan's build, where a training step takes a second, and shows what any other would.
#pragma once

#include <string_view>

namespace ember::testing {

constexpr bool kBriefly = std::string_view(EMBER_SANITIZE).find("thread") != std::string_view::npos;

}  // namespace ember::testing
