// What the programs of bench/ print and record alike.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ember {

// The machine as a JSON object: processor, processors that there are, operating system, compiler, date.
std::string machine_json();

// The most host memory that the process has held at once, in bytes, since the last reset; since its start where the
// system cannot forget.
std::size_t peak_host_memory();
void reset_peak_host_memory();

// Ties each thread to a processor of its own and lets it spin as train's do on a machine without other work
// (runtime/spinning.h), unless OMP_PROC_BIND is set already. Without, two threads may come to share a processor, and a
// run then measures twice what another one did. To be called first in main, since the program starts itself anew.
void steady_threads(char** argv);

// Writes to standard output, at once; Error when that cannot be written.
void print(std::string_view text);

}  // namespace ember
