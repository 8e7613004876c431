// Writes java-time.tsv: what Java makes of patterns, for the tests of src/hose/name/java_time.
//
//     java JavaTime.java > java-time.tsv            the table that is kept (Java 17)
//     java JavaTime.java 100000 SEED > /tmp/x.tsv   more, at random: KPIPE_JAVA_TIME=/tmp/x.tsv cargo test java_time
//
// Columns: pattern, microseconds since the epoch, zone, text. A pattern that Java refuses has `!` for its text and no
// more.

import java.time.*;
import java.time.format.*;
import java.util.*;

public class JavaTime {
    static final String[] PATTERNS = {
        // What people write.
        "yyyy/MM/dd/HH/", "yyyy/MM/dd", "yyyy-MM-dd", "yyyy'-'MM'-'dd", "'year='yyyy'/month='MM'/day='dd'/hour='HH",
        "yyyyMMdd'T'HHmmssX", "yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "EEE, d MMM yyyy HH:mm:ss Z", "YYYY-'W'ww-e", "yyyy-DDD",
        "h:mm a", "HH-mm-ss", "yyyy/'Q'Q", "MMMM d, yyyy", "yyyyMMddHHmmssSSS", "'dt='yyyy-MM-dd'/hr='HH'/'",
        // Letter by letter, in every number that is allowed.
        "G|GG|GGG|GGGG|GGGGG", "u|uu|uuu|uuuu|uuuuu|uuuuuuu", "y|yy|yyy|yyyy|yyyyy|yyyyyyyyyyyyyyyyyyy",
        "Y|YY|YYY|YYYY|YYYYY", "D|DD|DDD", "M|MM|MMM|MMMM|MMMMM", "L|LL|LLL|LLLL|LLLLL", "d|dd|g|gg|ggggggg",
        "Q|QQ|QQQ|QQQQ|QQQQQ", "q|qq|qqq|qqqq|qqqqq", "w|ww|W|F", "E|EE|EEE|EEEE|EEEEE", "e|ee|eee|eeee|eeeee",
        "c|ccc|cccc|ccccc", "a|B|BBBB|BBBBB", "h|hh|K|KK|k|kk|H|HH", "m|mm|s|ss", "S|SS|SSS|SSSS|SSSSS|SSSSSS",
        "SSSSSSS|SSSSSSSS|SSSSSSSSS", "A|AAAA|AAAAAAAAAA", "n|nnnn|nnnnnnnnnnnn", "N|NNNN|NNNNNNNNNNNNNNNNNNN", "VV",
        "v|vvvv", "z|zz|zzz|zzzz", "O|OOOO", "X|XX|XXX|XXXX|XXXXX", "x|xx|xxx|xxxx|xxxxx", "Z|ZZ|ZZZ|ZZZZ|ZZZZZ",
        // Weeks, quotes, sections, padding, other characters.
        "YYYY-ww YY w W", "''", "'a''b'", "'''yyyy'", "yyyy''''''MM''", "''''yyyy''''", "'{}#[]'", "[yyyy][-MM]", "[[yyyy]]MM[", "yyyy[MM[dd]]",
        "ppd|pppH|ppppppppppMMMM|pppppd", "ppppppppppppppppXX'x'|ppppppXXX|pppe", "\u00e9\u65e5yyyy\u5e74MM\u6708", "-_.~()!@$%^&*;,<>?=+|\\\"",
        " yyyy  MM ", "yyyy'T'", "ppppppppppyyyy-ppMM", "ppppppppppppSSSSSSSSS", "yyyyy.MMMMM.dd GGG hh:mm a", "K:mm a, z",
    };

    static final String[] REFUSED = {
        "l", "T", "b", "C", "f", "i", "I", "j", "J", "o", "P", "r", "R", "t", "U", "aa", "FF", "WW", "www", "DDDD", "ddd",
        "HHH", "hhh", "KKK", "kkk", "mmm", "sss", "SSSSSSSSSS", "MMMMMM", "LLLLLL", "QQQQQQ", "qqqqqq", "EEEEEE",
        "eeeeee", "cc", "cccccc", "GGGGGG", "uuuuuuuuuuuuuuuuuuuu", "yyyyyyyyyyyyyyyyyyyy", "AAAAAAAAAAAAAAAAAAAA",
        "nnnnnnnnnnnnnnnnnnnn", "NNNNNNNNNNNNNNNNNNNN", "gggggggggggggggggggg", "V", "VVV", "vv", "vvv", "zzzzz", "OO",
        "OOO", "OOOOO", "XXXXXX", "xxxxxx", "ZZZZZZ", "BB", "BBB", "BBBBBB", "p", "pp", "yyyyp", "p'x'", "pp[H]", "pp-",
        "'abc", "'", "'''", "yyyy'", "]", "[yyyy]]", "{", "}", "#", "yyyy{", "yyyyMMddTHHmmss",
    };

    static final String[] ZONES = {
        "UTC", "Z", "+05:30", "-09:30", "+18:00", "-18:00", "+00:00:30", "-01:02:03", "Europe/Berlin", "Europe/London",
        "Europe/Dublin", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "Asia/Kolkata", "Asia/Kathmandu",
        "Asia/Tokyo", "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Apia", "Pacific/Chatham",
        "Africa/Casablanca", "Africa/Windhoek", "Europe/Istanbul", "Etc/GMT+5", "Etc/UTC", "GMT", "America/Los_Angeles",
    };

    static final String[] INSTANTS = {
        "1970-01-01T00:00:00Z", "2000-02-29T23:59:59.999999Z", "2024-02-29T12:00:00Z", "2023-12-31T23:30:00.000001Z",
        "2024-12-29T06:07:08.09Z", "2025-01-01T00:00:00Z", "2026-11-23T13:48:35.000001Z", "2018-08-27T10:30:00Z",
        "2024-03-10T06:59:59.999999Z", "2024-03-10T07:00:00Z", "2024-10-27T00:59:59Z", "2024-10-27T01:00:00Z",
        "2024-07-01T18:00:30.123456Z", "2027-01-02T21:00:00Z", "2027-01-03T00:00:00Z", "2100-03-01T05:00:00Z",
        "1999-12-31T12:00:00.5Z", "2038-01-19T03:14:08Z", "2016-12-31T23:59:59Z", "2022-01-01T00:01:00Z",
    };

    // Before zones had laws, only in zones that have none.
    static final String[] FAR = {
        "0001-01-01T00:00:00Z", "0000-12-31T23:59:59.999999Z", "-0044-03-15T11:00:00Z", "0099-06-01T00:00:00Z",
        "9999-06-30T22:00:00Z", "1969-12-31T23:59:59.999999Z", "1582-10-10T00:00:00Z", "-9998-01-02T03:04:05.678901Z",
    };

    static void row(String pattern, Instant instant, String zone) {
        long us = Math.addExact(Math.multiplyExact(instant.getEpochSecond(), 1_000_000L), instant.getNano() / 1000);
        String text;
        try {
            text = DateTimeFormatter.ofPattern(pattern, Locale.US).format(instant.atZone(ZoneId.of(zone)));
        } catch (DateTimeException | ClassCastException | ArrayIndexOutOfBoundsException e) {
            // Padding that is too narrow, and faults of Java: padded numbers side by side, years of 11 places and more.
            return;
        }
        System.out.println(pattern + "\t" + us + "\t" + zone + "\t" + text);
    }

    public static void main(String[] args) throws Exception {
        System.setOut(new java.io.PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, "UTF-8"));
        if (args.length > 0) {
            random(Integer.parseInt(args[0]), new Random(Long.parseLong(args[1])));
            System.out.flush();
            return;
        }
        for (String pattern : REFUSED) {
            try {
                DateTimeFormatter.ofPattern(pattern, Locale.US);
                throw new AssertionError(pattern);
            } catch (IllegalArgumentException e) {
                System.out.println(pattern + "\t!");
            }
        }
        // Each pattern at a few moments, each time others, in other zones.
        int turn = 0;
        for (String pattern : PATTERNS) {
            for (int i = 0; i < 8; i++, turn++) {
                row(pattern, Instant.parse(INSTANTS[turn % INSTANTS.length]), ZONES[turn * 5 % ZONES.length]);
            }
            for (int i = 0; i < 2; i++) {
                row(pattern, Instant.parse(FAR[(turn + i) % FAR.length]), ZONES[(turn + i * 3) % 8]);
            }
        }
        for (String zone : ZONES) {
            for (int i = 0; i < 4; i++, turn++) {
                row("VV z zzzz v vvvv XXXXX OOOO", Instant.parse(INSTANTS[(turn + i * 7) % INSTANTS.length]), zone);
            }
        }
        // Weeks around each new year of a calendar's whole turn.
        for (int year = 2000; year < 2028; year++) {
            for (int day = -6; day <= 6; day += 3) {
                row("YYYY w W e", Instant.parse(year + "-01-01T12:00:00Z").plusSeconds(86400L * day), "UTC");
            }
        }
        System.out.flush();
    }

    static void random(int rows, Random random) {
        List<String> zones = new ArrayList<>(new TreeSet<>(ZoneId.getAvailableZoneIds()));
        zones.removeIf(zone -> zone.startsWith("SystemV/"));
        // Their past is told differently by the editions of the database.
        zones.removeAll(List.of("WET", "EET", "MET", "CET", "Asia/Tehran", "Iran"));
        String letters = "GuyDMLdQqYwWEecFaBhKkHmsSAnNVvzOXxZp'[]-/ ";
        for (int i = 0; i < rows; i++) {
            StringBuilder pattern = new StringBuilder();
            for (int parts = 1 + random.nextInt(4); parts > 0; parts--) {
                char c = letters.charAt(random.nextInt(letters.length()));
                for (int n = 1 + random.nextInt(random.nextInt(5) + 1); n > 0; n--) {
                    pattern.append(c);
                }
            }
            // 1970 to 2037: the years that both databases know in full.
            Instant instant = Instant.ofEpochSecond((long) (random.nextDouble() * 2_145_000_000L), random.nextInt(1_000_000) * 1000L);
            try {
                DateTimeFormatter.ofPattern(pattern.toString(), Locale.US);
            } catch (IllegalArgumentException e) {
                System.out.println(pattern + "\t!");
                continue;
            } catch (ClassCastException e) {
                continue;
            }
            row(pattern.toString(), instant, zones.get(random.nextInt(zones.size())));
        }
    }
}
