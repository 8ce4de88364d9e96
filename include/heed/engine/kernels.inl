// SPDX-License-Identifier: MIT
// Everything that is compiled once per instruction set, in order. No guard: engine/instruction_sets.hpp
// includes it for each. Each file rests on those above it.

// clang-format off
#include <heed/lanes/pack.inl>
#include <heed/lanes/exp2.inl>
#include <heed/lanes/draws.inl>
#include <heed/lanes/tanh.inl>
#include <heed/lanes/transpose.inl>
#include <heed/lanes/register_tile.inl>
#include <heed/lanes/dot_tile.inl>
#include <heed/engine/tile_sizes.inl>
#include <heed/engine/block_terms.inl>
#include <heed/engine/query_tile.inl>
#include <heed/engine/scorer.inl>
#include <heed/engine/additive.inl>
#include <heed/engine/edit_scores.inl>
#include <heed/engine/great_scores.inl>
#include <heed/engine/tile_walk.inl>
#include <heed/engine/copied_keys.inl>
#include <heed/engine/forward.inl>
#include <heed/engine/tasks.inl>
#include <heed/engine/streamed.inl>
#include <heed/engine/direct.inl>
#include <heed/engine/run_tasks.inl>
#include <heed/engine/backward_tile.inl>
#include <heed/engine/additive_gradients.inl>
#include <heed/engine/edit_gradients.inl>
#include <heed/engine/scores_by_row.inl>
#include <heed/engine/backward.inl>
#include <heed/engine/listed.inl>
#include <heed/engine/listed_backward.inl>
#include <heed/engine/score_rows.inl>
#include <heed/engine/select_rows.inl>
#include <heed/engine/rows_forward.inl>
#include <heed/engine/rows_backward.inl>
#include <heed/engine/tangents.inl>
#include <heed/engine/second_order.inl>
#include <heed/engine/linear_features.inl>
#include <heed/engine/linear.inl>
#include <heed/engine/linear_backward.inl>
#include <heed/engine/matrix_product.inl>
// clang-format on
