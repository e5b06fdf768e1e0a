-- The highest bids of each ten seconds (a tumbling window).
SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM bid b
JOIN (SELECT max(price) AS highest,
             date_bin(INTERVAL '10 seconds', date_time, TIMESTAMP '1970-01-01') AS starts
      FROM bid GROUP BY 2) m
    ON b.price = m.highest
    AND date_bin(INTERVAL '10 seconds', b.date_time, TIMESTAMP '1970-01-01') = m.starts
