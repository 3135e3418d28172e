//! FAT's dates and times, which have no time zone and are taken for UTC, and the clock for the library that writes,
//! which always shows the same time.

use fatfs::{Date, DateTime, Time, TimeProvider};

use crate::numbers::u16_from_i64;

/// Seconds of a day.
const DAY: i64 = 86_400;

#[derive(Debug)]
pub(super) struct Frozen(DateTime);

impl Frozen {
    /// At `time`, in seconds since 1970; FAT begins in 1980.
    pub(super) fn at(time: u32) -> Self {
        let time = i64::from(time).max(days_before(1980, 1, 1) * DAY);
        let (year, month, day) = date(time.div_euclid(DAY));
        let second = time.rem_euclid(DAY);
        Self(DateTime {
            date: Date {
                year: u16_from_i64(year),
                month: u16_from_i64(month),
                day: u16_from_i64(day),
            },
            time: Time {
                hour: u16_from_i64(second / 3600),
                min: u16_from_i64(second / 60 % 60),
                sec: u16_from_i64(second % 60),
                millis: 0,
            },
        })
    }
}

impl TimeProvider for Frozen {
    fn get_current_date(&self) -> Date {
        self.0.date
    }

    fn get_current_date_time(&self) -> DateTime {
        self.0
    }
}

/// A stored date and time in seconds since 1970 (specification, "Date and Time Formats").
pub(super) fn seconds((date, time): (u16, u16)) -> i64 {
    let (year, month, day) = (date >> 9, date >> 5 & 15, date & 31);
    let (hour, minute, second) = (time >> 11, time >> 5 & 63, (time & 31) * 2);
    days_before(i64::from(year) + 1980, i64::from(month), i64::from(day)) * DAY
        + i64::from(hour) * 3600
        + i64::from(minute) * 60
        + i64::from(second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; the year is counted from March, so that a leap day ends
/// it.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 153 + 2) / 5
        + day
        - 719_469
}

/// The date that lies `days` after 1970-01-01: the inverse of [`days_before`].
fn date(days: i64) -> (i64, i64, i64) {
    let mut year = 1970 + days.div_euclid(366);
    while days_before(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_before(year, month + 1, 1) <= days {
        month += 1;
    }
    (year, month, days - days_before(year, month, 1) + 1)
}

#[cfg(test)]
#[expect(
    clippy::decimal_bitwise_operands,
    reason = "times of day are decimal for people"
)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (time, expect) in [
            (0, (1980, 1, 1, 0, 0, 0)),
            (315_532_800, (1980, 1, 1, 0, 0, 0)),
            (951_782_399, (2000, 2, 28, 23, 59, 59)),
            (951_782_400, (2000, 2, 29, 0, 0, 0)),
            (1_546_300_800, (2019, 1, 1, 0, 0, 0)),
            (4_107_542_400, (2100, 3, 1, 0, 0, 0)),
            (u32::MAX, (2106, 2, 7, 6, 28, 15)),
        ] {
            let DateTime { date, time: clock } = Frozen::at(time).0;
            let got = (date.year, date.month, date.day, clock.hour, clock.min, clock.sec);
            assert_eq!(got, expect, "{time}");
        }
    }

    #[test]
    fn a_stored_time_is_read_back() {
        // 2019-01-01 12:34:56
        assert_eq!(
            seconds((39 << 9 | 1 << 5 | 1, 12 << 11 | 34 << 5 | 28)),
            1_546_346_096
        );
        assert_eq!(seconds((1 << 5 | 1, 0)), 315_532_800);
    }
}
