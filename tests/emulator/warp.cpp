// Warp operations: an operation is done when every lane that its mask names has come to it. Lanes that have exited are
// not waited for, as on a GPU.
#include <stdexcept>

#include "block.h"

namespace emulator {
namespace {

const char* problem_of(const Thread& a, const Thread& b) {
  if (a.meeting != b.meeting) return "lanes of one warp meet with different operations";
  if (a.mask != b.mask) return "lanes of one warp meet with different masks";
  if (a.place.line != b.place.line || a.place.file != b.place.file) return "lanes of one warp meet at different lines";
  return nullptr;
}

/// The lanes that take part in the operation that `lane` waits for, or 0 while some are still to come.
uint32_t participants(const Warp& warp, const Thread& lane) {
  uint32_t come = 0;
  for (unsigned i = 0; i < warp.count; ++i) {
    const Thread& other = warp.lanes[i];
    if (!(lane.mask >> i & 1) || other.state == State::kExited) continue;
    if (other.state != State::kAtWarpOperation) return 0;
    if (const char* problem = problem_of(lane, other))
      throw std::runtime_error(std::string(problem) + ": " + describe(lane) + ", " + describe(other));
    come |= 1u << i;
  }
  return come;
}

uint64_t match(const Warp& warp, uint32_t lanes, uint64_t value) {
  uint64_t same = 0;
  for (unsigned i = 0; i < warp.count; ++i)
    if ((lanes >> i & 1) && warp.lanes[i].value == value) same |= 1u << i;
  return same;
}

uint64_t shuffled(const Warp& warp, uint32_t lanes, const Thread& lane) {
  if (lane.source < 0 || lane.source >= int(warp.count) || !(lanes >> lane.source & 1))
    throw std::runtime_error("a shuffle reads lane " + std::to_string(lane.source) +
                             ", which takes no part: " + describe(lane));
  return warp.lanes[lane.source].value;
}

uint64_t result_of(const Warp& warp, uint32_t lanes, uint64_t votes, const Thread& lane) {
  switch (lane.meeting) {
    case Meeting::kShuffle:
      return shuffled(warp, lanes, lane);
    case Meeting::kMatch:
      return match(warp, lanes, lane.value);
    case Meeting::kBallot:
      return votes;
    case Meeting::kAny:
      return votes != 0;
    case Meeting::kAll:
      return votes == lanes;
    default:
      return 0;
  }
}

void finish(const Warp& warp, uint32_t lanes) {
  uint32_t parities = 0;
  uint64_t votes = 0;
  for (unsigned i = 0; i < warp.count; ++i) {
    parities |= (warp.lanes[i].sync_warps & 1) << i;
    if ((lanes >> i & 1) && warp.lanes[i].value) votes |= 1u << i;
  }
  for (unsigned i = 0; i < warp.count; ++i) {
    Thread& lane = warp.lanes[i];
    if (!(lanes >> i & 1)) continue;
    lane.partners = lanes, lane.partner_parities = parities;
    lane.result = result_of(warp, lanes, votes, lane);
  }
  for (unsigned i = 0; i < warp.count; ++i)
    if (lanes >> i & 1) warp.lanes[i].state = State::kReady;
}

}  // namespace

void finish_warp_operations(const Warp& warp) {
  uint32_t incomplete = 0;  // a mask, so that its other lanes are not asked again
  for (unsigned i = 0; i < warp.count; ++i) {
    const Thread& lane = warp.lanes[i];
    if (lane.state != State::kAtWarpOperation || lane.mask == incomplete) continue;
    if (!(lane.mask >> i & 1)) throw std::runtime_error("a lane is not in the mask that it gives: " + describe(lane));
    const uint32_t lanes = participants(warp, lane);
    if (lanes)
      finish(warp, lanes);
    else
      incomplete = lane.mask;
  }
}

uint64_t meet_warp(Meeting meeting, uint32_t mask, uint64_t value, int source, Place place) {
  Thread& thread = *current_thread();
  thread.meeting = meeting, thread.place = place;
  thread.mask = mask, thread.value = value, thread.source = source;
  thread.state = State::kAtWarpOperation;
  // Of all warp operations only __syncwarp orders memory.
  if (meeting == Meeting::kSyncWarp) release(&thread.warp_tokens[thread.sync_warps & 1]);
  switch_stacks(thread.context, thread.block->scheduler);
  if (meeting == Meeting::kSyncWarp) {
    ++thread.sync_warps;
    Thread* const lanes = &thread - thread.lane;
    for (unsigned i = 0; i < kWarpSize; ++i)
      if (thread.partners >> i & 1) acquire(&lanes[i].warp_tokens[thread.partner_parities >> i & 1]);
  }
  return thread.result;
}

}  // namespace emulator
