-- Sessions of bidders: bids no more than ten seconds apart.
SELECT bidder, session, count(*) AS bids, min(date_time) AS starts, max(date_time) AS ends
FROM (SELECT bidder, date_time,
             sum(begins) OVER (PARTITION BY bidder ORDER BY date_time, auction, price
                               ROWS UNBOUNDED PRECEDING) AS session
      FROM (SELECT bidder, date_time, auction, price,
                   CASE WHEN date_time - lag(date_time) OVER (PARTITION BY bidder
                                                              ORDER BY date_time, auction, price)
                             <= INTERVAL '10 seconds'
                        THEN 0 ELSE 1 END AS begins
            FROM bid) AS marked) AS numbered
GROUP BY bidder, session
