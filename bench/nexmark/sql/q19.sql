-- The ten highest bids of each auction.
SELECT auction, bidder, price, channel, url, date_time, extra, rank
FROM (SELECT *, row_number() OVER (PARTITION BY auction
                                   ORDER BY price DESC, date_time, bidder, extra) AS rank
      FROM bid) AS ranked
WHERE rank <= 10
