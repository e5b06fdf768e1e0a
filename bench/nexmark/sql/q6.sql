-- The average of each seller's last ten winning bids.
SELECT seller, id,
       avg(price) OVER (PARTITION BY seller ORDER BY date_time, id
                        ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) AS average
FROM (SELECT DISTINCT ON (a.id) a.id, a.seller, b.price, b.date_time
      FROM auction a JOIN bid b ON b.auction = a.id
      WHERE b.date_time BETWEEN a.date_time AND a.expires
      ORDER BY a.id, b.price DESC, b.date_time, b.bidder) AS won
