-- The auctions with the most bids in ten seconds, every two seconds (a hopping window).
WITH counts AS (
    SELECT b.auction,
           date_bin(INTERVAL '2 seconds', b.date_time, TIMESTAMP '1970-01-01')
               - k.k * INTERVAL '2 seconds' AS starts,
           count(*) AS num
    FROM bid b CROSS JOIN (VALUES (0), (1), (2), (3), (4)) AS k(k)
    GROUP BY 1, 2)
SELECT c.starts, c.auction, c.num
FROM counts c JOIN (SELECT starts, max(num) AS most FROM counts GROUP BY starts) m
    ON c.starts = m.starts AND c.num = m.most
