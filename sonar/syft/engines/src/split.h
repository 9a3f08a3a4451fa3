// Split form: every element is r (1 + n)^g with r < n, uniquely, and the g of a product add up.
//
// Here r comes in Montgomery form, so a split stands for (r / R) (1 + n)^g; it carries R^2 / r mod n and R^2 g as well.
// Multiplying by a split costs four units (a unit is L^2 limb products) for r alone, as r has no high part, and the
// lifts R^2 g are added up and used once at the end.
//
// For a product, r1 r2 + m n = t R, that is r1 r2 = t R (1 - (m / (t R)) n) = t R (1 + n)^(-m / (t R)) mod n^2. With
// j = R^2 / t its R^2 g is the sum of both less m R / t = REDC(m j): six units for all three.
#pragma once

#include "api.h"
#include "ring.h"
#include "team.h"

namespace sonar {

// Splits in eight lanes: 3 L vectors, r, then R^2 / r, then R^2 g.
using Split = Lanes*;
using ConstSplit = const Lanes*;

// Splits of elements, eight at a time: `elements` are `vectors` times 2 L vectors, `splits` as many times 3 L.
// All lanes must be coprime to n; one inversion is done in all. Then `product_inverse`, L limbs alike in all lanes, is
// R^2 / the Montgomery product of all r.
void split_all(
    Team& team, std::vector<Arithmetic>& members, Lanes* splits, Lanes* product_inverse, const Lanes* elements,
    size_t vectors, Inverter& inverter);

// Lane `lane` of a split in all lanes.
void broadcast_lane(Lanes* out, const Lanes* in, int lane, int vectors);

// Lane i of `out` = lane i + `by` of `in`, so that a product with the result joins lanes that are `by` apart.
void rotate_lanes(Lanes* out, const Lanes* in, int vectors, int by);

// One in split form: R mod n is an element like others, and its own R^2 / r.
void split_one(Arithmetic& arithmetic, Split out);

// The product of two splits. The lift grows by 2 n at most beyond the sum of both lifts.
void multiply_splits(Arithmetic& arithmetic, Split out, ConstSplit x, ConstSplit y);

// All 2^factors subset products of factors, each alike in all lanes, eight to a vector: bit k of an entry's index says
// whether factor k is in. Fewer than three factors are filled up with ones: max(1, 2^factors / 8) times 3 L vectors.
// Lifts are below (2 + 4 factors) n where those of the factors are below 2 n.
void subset_products(Arithmetic& arithmetic, Lanes* table, const Lanes* factors, int count, ConstSplit one);

// R g of a sum of lifts R^2 g, for columns [0, L + 2) that are normal and a value below 2^104 n; below 2 n.
void reduce_lift(Arithmetic& arithmetic, Lanes* out, const Lanes* lift);

// element (1 + n)^g for R g: two units.
void lift_element(Arithmetic& arithmetic, Element element, const Lanes* lift);

// The arithmetics of a team's members.
std::vector<Arithmetic> arithmetics(const Ring& ring, int workers);

}  // namespace sonar
