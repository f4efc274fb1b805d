extern int mnd_schedule_placeholder;
int mnd_schedule_placeholder = 0;
