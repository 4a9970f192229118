// What every program's main does alike: parse the command line, run, and turn errors into one line and an exit status.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace ember {

// Parses argv with `app` and runs `body`, whose value becomes the exit status. --help and --version print and give 0.
// A wrong command line and ember::Error print "<program>: <message>" as one line on stderr and give 2; anything else
// that is thrown is a defect of Ember's and gives 1.
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

// For programs that compute on several threads. libgomp's threads wait for one another by spinning for milliseconds,
// which on a machine that has other work holds up the very thread that is waited for: training became 5 to 10 times
// slower. This makes them spin for microseconds and then sleep. libgomp reads its settings before main, so the program
// starts itself once more with GOMP_SPINCOUNT set. Does nothing where it cannot, or where the environment says already
// how threads wait or which processors they are tied to.
inline constexpr const char* kBriefSpins = "1000";  // tens of microseconds
void spin_briefly(char** argv);

// Starts the program anew in this process, with the environment as it is by now. Returns only where that fails.
void start_anew(char** argv);

}  // namespace ember
