/* src/train/members_plan.c: how many members of an ensemble are trained at a time. */
#include "test.h"

#include "mnist_dist/train.h"

static void groups_where_they_pay(void **state) {
    (void)state;
    static const struct {
        int processes, members, most, groups;
    } row[] = {
        {1, 1, 8, 1},    {1, 5, 8, 1}, /* one after another */
        {2, 3, 8, 2},    {2, 1, 8, 1}, /* the last one gets both */
        {3, 3, 8, 3},    {3, 4, 8, 3},
        {5, 3, 8, 2}, /* one process for one of three would make the others wait */
        {8, 8, 8, 8},    {8, 4, 8, 4},
        {24, 3, 8, 3},   {100, 3, 8, 3}, /* no more than 8 to a group */
        {64, 64, 8, 64},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        assert_int_equal(mnd_members_groups(row[i].processes, row[i].members, row[i].most),
                         row[i].groups);
}

/* All members get a group in the end, and no round has more groups than processes or members. */
static void any_numbers_are_possible(void **state) {
    (void)state;
    for (int processes = 1; processes < 40; processes++)
        for (int members = 1; members < 40; members++)
            for (int left = members; left > 0;) {
                const int groups = mnd_members_groups(processes, left, 8);
                assert_true(groups >= 1 && groups <= left && groups <= processes);
                left -= groups;
            }
    const int most = mnd_members_groups(4, MND_MAX_MEMBERS, 8);
    assert_true(most >= 1 && most <= 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_where_they_pay),
        cmocka_unit_test(any_numbers_are_possible),
    };
    return cmocka_run_group_tests_name("members", tests, NULL, NULL);
}
