#include "runtime/cpu_quota.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/support.h"

namespace ember {
namespace {

// Files as the kernel shows them.
class CpuQuota : public ::testing::Test {
 protected:
  void write(const std::filesystem::path& file, const std::string& text) {
    std::filesystem::create_directories((folder_.path() / file).parent_path());
    std::ofstream(folder_.path() / file) << text;
  }
  int quota() const { return cpu_quota(folder_.path(), folder_.path() / "own"); }

 private:
  testing::TemporaryDirectory folder_;
};

TEST_F(CpuQuota, IsRoundedUpToWholeProcessors) {
  write("own", "0::/job\n");
  write("job/cpu.max", "250000 100000\n");
  EXPECT_EQ(quota(), 3);
  write("job/cpu.max", "200000 100000\n");
  EXPECT_EQ(quota(), 2);
  write("job/cpu.max", "1000 50000\n");
  EXPECT_EQ(quota(), 1);
}

TEST_F(CpuQuota, IsTheLeastOfAllGroupsAround) {
  write("own", "0::/pod/job\n");
  write("pod/job/cpu.max", "800000 100000\n");
  write("pod/cpu.max", "300000 100000\n");
  EXPECT_EQ(quota(), 3);
  write("cpu.max", "100000 100000\n");
  EXPECT_EQ(quota(), 1);
}

TEST_F(CpuQuota, OfVersion1IsItsCpuControllers) {
  write("own", "9:name=systemd:/job\n4:cpuset:/job\n2:cpu,cpuacct:/job\n0::/\n");
  write("cpu/job/cpu.cfs_quota_us", "400000\n");
  write("cpu/job/cpu.cfs_period_us", "100000\n");
  write("job/cpu.max", "100000 100000\n");  // not this process' group
  EXPECT_EQ(quota(), 4);
}

TEST_F(CpuQuota, OfAContainerThatSeesItsOwnGroupAsTheRoot) {
  write("own", "1:cpu:/docker/0123\n");
  write("cpu/cpu.cfs_quota_us", "150000\n");
  write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 2);
}

TEST_F(CpuQuota, IsNoneWhereNothingLimits) {
  EXPECT_EQ(quota(), kNoQuota);  // no list of groups
  write("own", "1:cpu:/job\n0::/job\n");
  EXPECT_EQ(quota(), kNoQuota);  // no groups
  write("job/cpu.max", "max 100000\n");
  write("cpu/job/cpu.cfs_quota_us", "-1\n");
  write("cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), kNoQuota);
  write("job/cpu.max", "100000 0\n");
  EXPECT_EQ(quota(), kNoQuota);
  write("own", "garbage\n");
  EXPECT_EQ(quota(), kNoQuota);
}

TEST_F(CpuQuota, BeyondAnyMachineIsNone) {
  write("own", "0::/\n");
  write("cpu.max", "9223372036854775807 2\n");
  EXPECT_EQ(quota(), kNoQuota);
}

}  // namespace
}  // namespace ember
