#include "runtime/file.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <stop_token>
#include <thread>

#include "runtime/error.h"
#include "tests/full_disk.h"
#include "tests/record_writes.h"
#include "tests/support.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::FullDisk;
using testing::TemporaryDirectory;

void put(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

TEST(ReadFile, GivesEveryByte) {
  const TemporaryDirectory directory;
  std::string content(200'001, 'x');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31);
  put(directory / "file", content);
  put(directory / "empty", "");
  EXPECT_EQ(read_file(directory / "file"), content);
  EXPECT_EQ(read_file(directory / "empty"), "");
}

TEST(ReadFile, NamesWhatCannotBeRead) {
  const TemporaryDirectory directory;
  const std::string missing = (directory / "missing").string();
  EXPECT_EQ(error_of([&] { read_file(missing); }), missing + ": No such file or directory");
  EXPECT_EQ(error_of([&] { read_file(directory.path()); }),
            directory.path().string() + ": is a directory, a file was expected");
  EXPECT_EQ(error_of([] { read_file("/proc/self/mem"); }), "/proc/self/mem: Input/output error");
}

// What is there and may not be read, unlike what is not there.
TEST(ReadFile, TellsARefusalFromAnAbsence) {
  const TemporaryDirectory directory;
  put(directory / "file", "x");
  fs::create_symlink("loop", directory / "loop");
  EXPECT_THROW(read_file(directory / "loop"), ReadRefused);
  for (const fs::path& absent : {directory / "none", directory / "file" / "below"}) {
    try {
      read_file(absent);
      ADD_FAILURE() << absent;
    } catch (const ReadRefused&) {
      ADD_FAILURE() << absent;
    } catch (const Error&) {
    }
  }
}

TEST(ReadFile, HasNoMoreThanIsAllowedOfWhatHidesItsSizeToo) {
  const TemporaryDirectory directory;
  put(directory / "file", "seven..");
  EXPECT_EQ(read_file(directory / "file", 7), "seven..");
  EXPECT_EQ(error_of([&] { read_file(directory / "file", 6); }),
            (directory / "file").string() + ": 7 bytes, more than the 6 allowed");
  EXPECT_EQ(error_of([] { read_file("/dev/zero", 70'000); }), "/dev/zero: 131072 bytes, more than the 70000 allowed");
}

TEST(MappedFile, GivesEveryByteAndMoves) {
  const TemporaryDirectory directory;
  put(directory / "file", "content");
  put(directory / "empty", "");
  MappedFile file(directory / "file");
  ASSERT_EQ(file.bytes().size(), 7u);
  EXPECT_EQ(static_cast<char>(file.bytes()[6]), 't');
  MappedFile moved = std::move(file);
  EXPECT_EQ(static_cast<char>(moved.bytes()[0]), 'c');
  EXPECT_EQ(moved.bytes().size(), 7u);
  EXPECT_EQ(moved.path(), directory / "file");
  moved = MappedFile(directory / "empty");
  EXPECT_TRUE(moved.bytes().empty());
  EXPECT_EQ(moved.path(), directory / "empty");
}

TEST(MappedFile, NamesWhatCannotBeRead) {
  const TemporaryDirectory directory;
  EXPECT_THROW(MappedFile(directory / "missing"), Error);
  EXPECT_THROW(MappedFile(directory.path()), Error);
}

TEST(MappedFile, SaysThatThereIsNoRoomForIt) {
  const TemporaryDirectory directory;
  put(directory / "file", "");
  fs::resize_file(directory / "file", std::uintmax_t{1} << 30);  // of which nothing is on the disk
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlimit now{pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{1} << 28), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &now), 0);
  const std::string message = error_of([&] { MappedFile{directory / "file"}; });
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_EQ(message, (directory / "file").string() + ": Cannot allocate memory");
}

// Nor waited for.
TEST(MappedFile, APipeIsRefused) {
  const TemporaryDirectory directory;
  const std::string pipe = (directory / "pipe").string();
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(error_of([&] { MappedFile{pipe}; }), pipe + ": is no regular file, one was expected");
}

TEST(FileWriter, AFullDiskIsAnError) {
  EMBER_NEEDS_DATA("/dev/full");
  const std::string message = error_of([] { FileWriter("/dev/full").write("x"); });
  EXPECT_EQ(message, "/dev/full: cannot be written: No space left on device");
}

TEST(FileWriter, LeavesNothingOfALongerFile) {
  const TemporaryDirectory directory;
  put(directory / "file", "what was there before");
  write_file(directory / "file", "new");
  EXPECT_EQ(read_file(directory / "file"), "new");
}

TEST(WriteFileAtomically, ReplacesTheFile) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "file", "one");
  EXPECT_EQ(read_file(directory / "file"), "one");
  write_file_atomically(directory / "file", [](FileWriter& file) {
    file.write("two");
    file.write(" parts");
  });
  EXPECT_EQ(read_file(directory / "file"), "two parts");
  EXPECT_EQ(entries(directory.path()), 1u);
}

TEST(WriteFileAtomically, TakesANameWithoutItsFolder) {
  const TemporaryDirectory directory;
  const fs::path before = fs::current_path();
  fs::current_path(directory.path());
  write_file_atomically("file", "content");
  fs::current_path(before);
  EXPECT_EQ(read_file(directory / "file"), "content");
}

TEST(WriteAtomically, WhatIsNotFlushedDoesNotReplaceAnything) {
  const TemporaryDirectory directory;
  const fs::path partial = temporary_name(directory / "file");
  write_file_atomically(directory / "file", "old");
  const testing::FailingFlush full(partial.filename(), ENOSPC);
  EXPECT_EQ(error_of([&] { write_file_atomically(directory / "file", "new"); }),
            partial.string() + ": cannot be written: No space left on device");
  EXPECT_EQ(read_file(directory / "file"), "old");
  EXPECT_EQ(entries(directory.path()), 1u);
}

TEST(WriteAtomically, AFolderThatIsNotFlushedIsAnError) {
  const TemporaryDirectory directory;
  const testing::FailingFlush broken(directory.path().filename(), EIO);
  EXPECT_EQ(error_of([&] { write_file_atomically(directory / "file", "new"); }),
            directory.path().string() + ": cannot be flushed: Input/output error");
}

// As one that may be written and not read; the limit stands for that, which is nothing to root.
TEST(WriteAtomically, AFolderThatCannotBeOpenedToBeFlushedKeepsItsFiles) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "file", "old");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const std::string message = error_of([&] {
    write_file_atomically(directory / "file", [&](FileWriter& file) {
      file.write("new");
      const rlimit none{0, before.rlim_max};
      setrlimit(RLIMIT_NOFILE, &none);
    });
  });
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(message, directory.path().string() + ": cannot be flushed: Too many open files");
  EXPECT_EQ(read_file(directory / "file"), "old");
  EXPECT_EQ(entries(directory.path()), 1u);
}

TEST(WriteAtomically, WhereNothingCanBeFlushedItIsNotAsked) {
  const TemporaryDirectory directory;
  for (const fs::path& unable : {temporary_name(directory / "file"), directory.path()}) {
    const testing::FailingFlush no(unable.filename(), EINVAL);
    write_file_atomically(directory / "file", unable.string());
    EXPECT_EQ(read_file(directory / "file"), unable.string());
  }
}

TEST(WriteAtomically, OthersMayReadIt) {
  const TemporaryDirectory directory;
  const mode_t before = umask(0);
  write_file_atomically(directory / "file", "content");
  write_directory_atomically(directory / "folder", [](const fs::path&) {});
  umask(before);
  EXPECT_EQ(fs::status(directory / "file").permissions(), fs::perms(0644));
  EXPECT_EQ(fs::status(directory / "folder").permissions(), fs::perms(0755));
}

// Of a process that had the same number.
TEST(WriteAtomically, WhatAKilledProcessLeftIsNotInTheWay) {
  const TemporaryDirectory directory;
  put(directory / "one", "new");
  for (const char* name : {"link", "file"}) put(temporary_name(directory / name), "left behind, and longer");
  fs::create_directory(temporary_name(directory / "folder"));
  put(temporary_name(directory / "folder") / "left", "behind");
  link_atomically(directory / "one", directory / "link");
  write_file_atomically(directory / "file", "new");
  write_directory_atomically(directory / "folder", [](const fs::path& folder) { write_file(folder / "part", "p"); });
  EXPECT_TRUE(fs::equivalent(directory / "one", directory / "link"));
  EXPECT_EQ(read_file(directory / "file"), "new");
  EXPECT_EQ(entries(directory / "folder"), 1u);
  EXPECT_EQ(entries(directory.path()), 4u);
}

TEST(LinkAtomically, NamesOneFileTwiceUntilOneIsReplaced) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "one", "first");
  write_file_atomically(directory / "two", "old");
  for (int twice = 0; twice < 2; ++twice) link_atomically(directory / "one", directory / "two");
  EXPECT_TRUE(fs::equivalent(directory / "one", directory / "two"));
  write_file_atomically(directory / "one", "second");
  EXPECT_EQ(read_file(directory / "two"), "first");
  EXPECT_EQ(entries(directory.path()), 2u);
  fs::create_symlink("two", directory / "link");
  link_atomically(directory / "link", directory / "three");
  EXPECT_TRUE(fs::equivalent(directory / "two", directory / "three"));
  EXPECT_FALSE(fs::is_symlink(directory / "three"));
  fs::create_directory(directory / "folder");
  EXPECT_NE(error_of([&] { link_atomically(directory / "one", directory / "folder"); }), "");
  for (const char* name : {"link", "three", "folder"}) fs::remove(directory / name);
  EXPECT_NE(error_of([&] { link_atomically(directory / "none", directory / "two"); }), "");
  EXPECT_EQ(read_file(directory / "two"), "first");
  EXPECT_EQ(entries(directory.path()), 2u);
}

// No file system links across its end, where it has to be a copy.
TEST(LinkAtomically, CopiesWhereThereAreNoLinks) {
  if (!fs::is_directory("/dev/shm")) GTEST_SKIP() << "/dev/shm, a file system of its own, is not here";
  const TemporaryDirectory directory;
  const fs::path elsewhere = fmt::format("/dev/shm/ember-test-{}", ::getpid());
  write_file(elsewhere, "from afar");
  link_atomically(elsewhere, directory / "copy");
  fs::remove(elsewhere);
  EXPECT_EQ(read_file(directory / "copy"), "from afar");
  EXPECT_EQ(entries(directory.path()), 1u);
}

// More than the device is given at a time.
TEST(WriteFile, WritesALongTextWhole) {
  const TemporaryDirectory directory;
  std::string text(20'000'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 2654435761u >> 24);
  write_file(directory / "file", text);
  EXPECT_TRUE(read_file(directory / "file") == text);
}

// A signal whose handler lets no call begin anew, as a program that links Ember may have one.
TEST(InterruptedCalls, GoOn) {
  struct sigaction handler {
  }, before{};
  handler.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &handler, &before), 0);
  const TemporaryDirectory directory;
  const fs::path pipe = directory / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const auto interrupt = [of = pthread_self()] {
    for (int i = 0; i < 50; ++i) {
      pthread_kill(of, SIGUSR1);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  };
  int end = ::open(pipe.c_str(), O_RDWR);
  std::jthread writer([&] {
    interrupt();
    EXPECT_EQ(::write(end, "content", 7), 7);
    ::close(end);
  });
  EXPECT_EQ(read_file(pipe), "content");
  writer.join();

  end = ::open(pipe.c_str(), O_RDWR | O_NONBLOCK);
  std::size_t full = 0;
  while (::write(end, "", 1) == 1) ++full;
  std::string read(full + 7, 'x');
  std::jthread reader([&](const std::stop_token& gave_up) {
    interrupt();
    for (std::size_t got = 0; got < read.size() && !gave_up.stop_requested();)
      if (const ssize_t more = ::read(end, read.data() + got, read.size() - got); more > 0)
        got += static_cast<std::size_t>(more);
  });
  write_file(pipe, "content");
  reader.join();
  ::close(end);
  sigaction(SIGUSR1, &before, nullptr);
  EXPECT_EQ(read.substr(full), "content");
}

TEST(WriteFileAtomically, NeverShowsHalfAFile) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "file", "old");
  write_file_atomically(directory / "file", [&](FileWriter& file) {
    file.write("new");
    EXPECT_EQ(read_file(directory / "file"), "old");
  });
  EXPECT_EQ(read_file(directory / "file"), "new");
}

TEST(WriteFileAtomically, AnExceptionLeavesTheOldFileAlone) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "file", "old");
  const auto fail_halfway = [](FileWriter& file) {
    file.write("half");
    throw std::runtime_error("stop");
  };
  EXPECT_THROW(write_file_atomically(directory / "file", fail_halfway), std::runtime_error);
  EXPECT_THROW(write_file_atomically(directory / "other", fail_halfway), std::runtime_error);
  EXPECT_EQ(read_file(directory / "file"), "old");
  EXPECT_EQ(entries(directory.path()), 1u);
}

TEST(WriteFileAtomically, AFullDiskLeavesTheOldFileAlone) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "file", "old");
  std::string message;
  {
    const FullDisk full(1000);
    message = error_of([&] { write_file_atomically(directory / "file", std::string(5000, 'n')); });
  }
  EXPECT_CONTAINS(message, "cannot be written: File too large");
  EXPECT_EQ(read_file(directory / "file"), "old");
  EXPECT_EQ(entries(directory.path()), 1u);
}

TEST(WriteFileAtomically, NamesAFolderThatIsNotThere) {
  const TemporaryDirectory directory;
  EXPECT_NE(error_of([&] { write_file_atomically(directory / "no" / "file", "x"); }).find("No such file"),
            std::string::npos);
  fs::create_directory(directory / "folder");
  EXPECT_EQ(error_of([&] { write_file_atomically(directory / "folder", "x"); }),
            (directory / "folder").string() + ": cannot be written: Is a directory");
  const fs::path below = directory / "no" / "folder";
  EXPECT_EQ(error_of([&] { write_directory_atomically(below, [](const fs::path&) {}); }),
            temporary_name(below).string() + ": cannot be made: No such file or directory");
  EXPECT_EQ(entries(directory.path()), 1u);
}

TEST(WriteDirectoryAtomically, AppearsWhole) {
  const TemporaryDirectory directory;
  write_directory_atomically(directory / "step-1", [&](const fs::path& partial) {
    write_file_atomically(partial / "a", "1");
    EXPECT_FALSE(fs::exists(directory / "step-1"));
    write_file_atomically(partial / "b", "2");
  });
  EXPECT_EQ(read_file(directory / "step-1" / "b"), "2");
  write_directory_atomically(fs::path((directory / "step-2").string() + "/"),
                             [](const fs::path& partial) { write_file_atomically(partial / "a", "1"); });
  EXPECT_EQ(read_file(directory / "step-2" / "a"), "1");
  EXPECT_EQ(entries(directory.path()), 2u);
}

TEST(WriteDirectoryAtomically, LeavesNothingBehindOnAnException) {
  const TemporaryDirectory directory;
  const auto fill = [](const fs::path& partial) {
    write_file_atomically(partial / "a", "1");
    throw std::runtime_error("stop");
  };
  EXPECT_THROW(write_directory_atomically(directory / "step-1", fill), std::runtime_error);
  EXPECT_EQ(entries(directory.path()), 0u);
}

TEST(WriteDirectoryAtomically, DoesNotReplaceAFolder) {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "step-1");
  put(directory / "step-1" / "kept", "1");
  EXPECT_THROW(write_directory_atomically(directory / "step-1", [](const fs::path&) {}), Error);
  EXPECT_EQ(read_file(directory / "step-1" / "kept"), "1");
  EXPECT_EQ(entries(directory.path()), 1u);
}

// So that after a power cut a name is that of a whole file.
TEST(WriteAtomically, FlushesBeforeItRenamesAndTheFolderAfterwards) {
  using Writes = std::vector<std::string>;
  const TemporaryDirectory directory;
  const std::string here = directory.path().filename();
  const auto partial = [](const char* name) { return temporary_name(name).string(); };
  testing::take_writes();
  write_file_atomically(directory / "file", "content");
  EXPECT_EQ(testing::take_writes(), (Writes{"flush " + partial("file"), "rename file", "flush " + here}));
  write_directory_atomically(directory / "folder", [](const fs::path& folder) { write_file(folder / "part", "p"); });
  EXPECT_EQ(testing::take_writes(),
            (Writes{"flush part", "flush " + partial("folder"), "rename folder", "flush " + here}));
  link_atomically(directory / "file", directory / "link");
  EXPECT_EQ(testing::take_writes(), (Writes{"rename link", "flush " + here}));
}

TEST(RequireDirectory, SaysWhatIsThereInstead) {
  const TemporaryDirectory directory;
  require_directory(directory.path(), "--data");
  put(directory / "file", "x");
  const std::string file = (directory / "file").string();
  EXPECT_EQ(error_of([&] { require_directory(file, "--data"); }), file + ": is a file, a folder was expected (--data)");
  for (const std::string& absent : {file + "/x", file + "s"})
    EXPECT_EQ(error_of([&] { require_directory(absent, "--data"); }), absent + ": no such folder (--data)");
  const std::string endless = file + std::string(300, 's');
  EXPECT_EQ(error_of([&] { require_directory(endless, "--data"); }), endless + ": File name too long (--data)");
}

TEST(RequireWritableDirectory, SaysThatTheDiskIsFull) {
  const TemporaryDirectory directory;
  const auto complaint = [&] { return error_of([&] { require_writable_directory(directory.path()); }); };
  const std::string expected = directory.path().string() + ": no file can be written there: ";
  std::string message;
  {
    const FullDisk full(0);
    message = complaint();
  }
  EXPECT_EQ(message, expected + "File too large");
  // Named as the system does a file that is out of its folder already: there an interrupt would leave it.
  const testing::FailingFlush full(temporary_name("probe").string() + " (deleted)", ENOSPC);
  EXPECT_EQ(complaint(), expected + "No space left on device");
  EXPECT_EQ(entries(directory.path()), 0u);
}

TEST(TemporaryDirectory, IsGoneAtTheEndWithWhatIsInIt) {
  fs::path path;
  {
    const TemporaryDirectory directory;
    path = directory.path();
    put(path / "file", "x");
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(TemporaryDirectory, SaysWhyThereCanBeNone) {
  const char* set = std::getenv("TMPDIR");
  const std::string before = set == nullptr ? "" : set;
  const auto complaint_of = [](const char* folder) {
    setenv("TMPDIR", folder, 1);
    return error_of([] { ember::TemporaryDirectory("prefix"); });
  };
  const std::string absent = complaint_of("/nowhere"), full = complaint_of("/proc");
  set == nullptr ? unsetenv("TMPDIR") : setenv("TMPDIR", before.c_str(), 1);
  EXPECT_EQ(absent.find("TMPDIR: no such folder for temporary ones: "), 0u) << absent;
  EXPECT_EQ(full.find("/proc: no folder can be made there: "), 0u) << full;
}

TEST(RequireWritableDirectory, MakesItOrSaysWhyNot) {
  const TemporaryDirectory directory;
  require_writable_directory(directory / "a" / "b");
  EXPECT_EQ(entries(directory / "a" / "b"), 0u);
  put(directory / "file", "x");
  const auto complaint_of = [](const fs::path& path) { return error_of([&] { require_writable_directory(path); }); };
  for (const fs::path& no_folder : {directory / "file", directory / "file" / "b"})
    EXPECT_EQ(complaint_of(no_folder), no_folder.string() + ": cannot be used as a folder: Not a directory");
  if (geteuid() != 0) {  // root may write anywhere
    fs::create_directory(directory / "locked");
    chmod((directory / "locked").c_str(), 0555);
    EXPECT_CONTAINS(complaint_of(directory / "locked"), "Permission denied");
  }
}

TEST(TemporaryName, IsTakenApartAsItIsMade) {
  const std::filesystem::path path = std::filesystem::path("folder") / "model.v2.safetensors";
  for (const char* use : {"partial", "new"}) {
    const std::filesystem::path made = temporary_name(path, use);
    EXPECT_EQ(made.parent_path(), "folder");
    const auto parsed = parse_temporary_name(made.filename().string());
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->of, "model.v2.safetensors");
    EXPECT_EQ(parsed->process, ::getpid());
    EXPECT_EQ(parsed->use, use);
  }
  const auto twice = parse_temporary_name("..out.12.new.34.partial");
  ASSERT_TRUE(twice);
  EXPECT_EQ(twice->of, ".out.12.new");
  EXPECT_EQ(twice->process, 34);
  for (const char* other :
       {"", ".", "..", "...", ".partial", ".1.partial", "..1.partial.", ".a.partial", ".a.b.partial", ".a.1b.partial",
        ".a.-1.partial", ".a.0.partial", ".a.1.", ".a.99999999999.partial", "a.1.partial"})
    EXPECT_FALSE(parse_temporary_name(other)) << other;
}

}  // namespace
}  // namespace ember
