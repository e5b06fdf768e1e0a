-- Bids of persons with what those persons sell: a three-way join.
SELECT b.auction, p.name, a.item_name
FROM bid b JOIN person p ON b.bidder = p.id JOIN auction a ON a.seller = p.id
