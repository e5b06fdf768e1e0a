-- The winning bid of each auction: the highest while it ran, the first of equal ones.
SELECT DISTINCT ON (a.id)
       a.id, a.item_name, a.description, a.initial_bid, a.reserve, a.date_time, a.expires,
       a.seller, a.category, b.bidder, b.price, b.date_time AS bid_time
FROM auction a JOIN bid b ON b.auction = a.id
WHERE b.date_time BETWEEN a.date_time AND a.expires
ORDER BY a.id, b.price DESC, b.date_time, b.bidder
