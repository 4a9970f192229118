// What every program's main does alike: parse the command line, run, and turn errors into one line and an exit status.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace ember {

// Parses argv with `app` and runs `body`, whose value becomes the exit status. --help prints and gives 0.
// A wrong command line, an empty value or a number with leading zeros, ember::Error and std::filesystem's errors print
// "<program>: <message>" as one line on stderr and give 2; anything else that is thrown is a defect of Ember's and
// gives 1. Ignores SIGPIPE and SIGXFSZ.
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

// Starts the program anew in this process, with the environment as it is by now. Returns only where that fails.
void start_anew(char** argv);

}  // namespace ember
